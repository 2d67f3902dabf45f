#pragma once
#include <loraga/gradient/background_worker.hpp>
#include <loraga/gradient/dense.hpp>

namespace loraga {

/// How an offloaded_gradient travels.
struct offloaded_options {
  index_t panel_bytes = index_t{32} << 20;  ///< device memory per slot: a gradient travels in panels of columns
};

/// The mean gradient summed in host memory, for models whose gradients do not fit on the device together. Each
/// micro-batch's gradient leaves in panels of columns. A background_worker copies them while the training goes on, and
/// its threads add one while the next is copied. With add_outer the device holds only the panels on their way.
/// math    G = sum_i weight_i*dW_i / sum_i weight_i, in T on the host; T is float or double
/// memory  out*in numbers of (pinned) host memory; on the device the worker's slots, one panel each, and during top
///         one layer's matrix
/// cost    per micro-batch out*in numbers over the bus, added by several host threads; the sum does not depend on how many
template <class B, class T = float>
class offloaded_gradient {
  struct sum {
    decltype(std::declval<B&>().template allocate_host<T>(1)) memory;
    matrix_view<T, host_space> view;
    bool whole = true;  // false: a micro-batch was added in part
  };
  background_worker<B>* worker_;
  offloaded_options options_;
  std::shared_ptr<sum> sum_;  // shared with the tasks that add to it
  double weight_ = 0;
  index_t count_ = 0;

 public:
  using value_type = T;
  using space = typename B::space;

  /// errors  value_error if out or in or panel_bytes < 1
  offloaded_gradient(background_worker<B>& worker, B& be, index_t out, index_t in, offloaded_options options = {})
      : worker_(&worker), options_(options) {
    require_value(out >= 1 && in >= 1, static_cast<double>(std::min(out, in)), "offloaded_gradient", "out or in",
                  "at least 1");
    require_value(options.panel_bytes >= 1, static_cast<double>(options.panel_bytes), "offloaded_gradient",
                  "panel_bytes", "at least 1");
    sum_ = std::make_shared<sum>(sum{be.template allocate_host<T>(out * in), {}});
    sum_->view = col_major(sum_->memory.get(), out, in);
    reset(be);
  }
  offloaded_gradient(offloaded_gradient&&) = default;  // no copies: they would share the sum
  offloaded_gradient& operator=(offloaded_gradient&&) = default;
  index_t rows() const { return sum_->view.rows; }
  index_t cols() const { return sum_->view.cols; }
  index_t count() const { return count_; }
  double weight() const { return weight_; }

  void reset(B&) {
    worker_->join();
    std::fill_n(sum_->memory.get(), rows() * cols(), T(0));
    sum_->whole = true;
    weight_ = 0;
    count_ = 0;
  }

  /// dW (out x in) of one micro-batch. Later work on be's stream may overwrite it.
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    require_shape(dw, rows(), cols(), "offloaded_gradient::add", "dW");
    require_matrix(dw, "offloaded_gradient::add", "dW");
    require_weight(weight, "offloaded_gradient::add");
    send(be, weight, [&](index_t first, index_t n, matrix_view<T, space> panel) {
      axpby(be, weight, dw.columns(first, n), 0.0, panel);
    });
  }

  /// dW = dY*XT of one micro-batch, formed panel by panel.
  /// errors  as add
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    require_shape(dy, rows(), x.cols, "offloaded_gradient::add_outer", "dY");
    require_shape(x, cols(), dy.cols, "offloaded_gradient::add_outer", "X");
    require_matrix(dy, "offloaded_gradient::add_outer", "dY");
    require_matrix(x, "offloaded_gradient::add_outer", "X");
    require_weight(weight, "offloaded_gradient::add_outer");
    send(be, weight, [&](index_t first, index_t n, matrix_view<T, space> panel) {
      be.gemm(weight, dy, x.row_range(first, n).transposed(), 0.0, panel);
    });
  }

  /// Everything `other` saw, as if added here. Waits for both.
  /// errors  shape_error
  void merge(B&, offloaded_gradient const& other) {
    require_shape(other.sum_->view, rows(), cols(), "offloaded_gradient::merge", "other");
    add_to((total(), sum_->memory.get()), other.total().data, rows() * cols());
    weight_ += other.weight_;
    count_ += other.count_;
  }

  /// The weighted sum on the host, not yet divided by weight(). Waits for what is on its way.
  /// errors  state_error if adding a micro-batch failed half way (memory): only reset helps then, and nothing once the
  ///         worker has failed
  matrix_view<T const, host_space> total() const {
    worker_->join();
    require_whole();
    return sum_->view;
  }

  /// Waits for what is on its way.
  template <class C>
  void visit_state(C& c) {
    worker_->join();
    require_whole();
    c("sum", sum_->view);
    c("weight", weight_);
    c("count", count_);
  }

  /// to = the mean. Waits for be, because the sum may change afterwards.
  /// errors  state_error if there is none yet; shape_error
  void estimate(B& be, matrix_view<T, space> to) const {
    require_seen(count_, "offloaded_gradient::estimate");
    require_shape(to, rows(), cols(), "offloaded_gradient::estimate", "to");
    be.copy(total(), to);
    axpby(be, 1 / weight_, to, 0.0, to);
    be.synchronize();
  }

  /// k leading triplets of every member's mean. Members come to the device one after the other.
  /// errors  state_error if a member is empty, shape_error if shapes differ; numeric faults are flags of the result
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const& svd, std::span<offloaded_gradient const* const> batch, index_t k) {
    require_readable(batch, "offloaded_gradient::top");
    auto const count = static_cast<index_t>(batch.size());
    index_t const rows = count ? batch[0]->rows() : 0, cols = count ? batch[0]->cols() : 0;
    svd_result<T, B> result(be, count, rows, cols, k);
    matrix<T, B> visitor(be, rows, cols);
    for (index_t b = 0; b < count; ++b) {
      auto const i = static_cast<std::size_t>(b);
      double const w = batch[i]->weight_;
      be.copy(batch[i]->total(), visitor.view());
      matrix_view<T const, space> const here = visitor.view();
      auto const found = svd.top(be, view_list(&here, 1), k);
      be.copy(found[0].u, result[b].u);
      axpby(be, 1 / w, found[0].s, 0.0, result[b].s);
      be.copy(found[0].v, result[b].v);
      result.flags[i] = found.flags[0];
      result.energy[i] = found.energy[0] / (w * w);
    }
    return result;
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    offloaded_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }

 private:
  void require_whole() const {
    if (!sum_->whole)
      raise<state_error>("offloaded_gradient", "sum", "incomplete after a failed add", "all micro-batches whole");
  }
  static void add_to(T* to, T const* from, index_t n) {
    for (index_t i = 0; i < n; ++i) to[i] += from[i];
  }
  /// Every panel through a slot: fill(first, n, panel) on be's stream, then home and onto the sum in the background.
  template <class Fill>
  void send(B& be, double weight, Fill const& fill) {
    require_whole();
    index_t const column = rows() * static_cast<index_t>(sizeof(T));
    index_t const width = std::clamp<index_t>(options_.panel_bytes / column, 1, cols());
    for (index_t first = 0; first < cols(); first += width) {
      index_t const n = std::min(width, cols() - first), out = rows();
      auto const panel = [out, n](std::byte* p) { return col_major<space>(reinterpret_cast<T*>(p), out, n); };
      worker_->submit_home(
          be, n * column, [&](std::byte* p) { fill(first, n, panel(p)); },
          [panel, out, n](B& side, std::byte* p, std::byte* home) {
            side.copy(panel(p), col_major(reinterpret_cast<T*>(home), out, n));
          },
          [to = sum_, first, out, n](std::byte* home, index_t part, index_t parts) {
            index_t const from = out * n * part / parts, until = out * n * (part + 1) / parts;
            add_to(to->memory.get() + first * out + from, reinterpret_cast<T const*>(home) + from, until - from);
          });
      sum_->whole = first + n == cols();
    }
    weight_ += weight;
    ++count_;
  }
};

}  // namespace loraga
