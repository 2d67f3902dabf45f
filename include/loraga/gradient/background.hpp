#pragma once
#include <loraga/gradient/background_worker.hpp>
#include <loraga/gradient/dense.hpp>

namespace loraga {

/// Any accumulator G, fed beside the training instead of within it. Micro-batches are copied on the training's stream;
/// a background_worker then works on the copies. Many layers share one worker, which must outlive them. It is meant for
/// incremental_gradient, whose update reads results on the host.
/// cost    per micro-batch a copy of it on the training's stream
/// memory  as G, and the worker's slots: 2*tokens*(out + in) numbers of the largest layer
/// errors  as G, on the caller's thread; where the work itself fails (memory), the next call that waits throws: top,
///         merge, or one that hands over a micro-batch
template <class G, class B>
class background_gradient {
  background_worker<B>* worker_;
  index_t rows_, cols_;
  std::shared_ptr<G> inner_;  // shared with the tasks that feed it
  double weight_ = 0;
  index_t count_ = 0;

 public:
  using value_type = typename G::value_type;
  using space = typename B::space;

  /// Further arguments are G's own, after (backend, out, in).
  template <class... Options>
  background_gradient(background_worker<B>& worker, index_t out, index_t in, Options const&... options)
      : worker_(&worker), rows_(out), cols_(in) {
    worker.run([&](B& side) { inner_ = std::make_shared<G>(side, out, in, options...); });
  }
  background_gradient(background_gradient&&) = default;  // no copies: they would share the sum
  background_gradient& operator=(background_gradient&&) = default;
  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
  index_t count() const { return count_; }
  double weight() const { return weight_; }

  /// dW (out x in) of one micro-batch. Later work on be's stream may overwrite it.
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    char const* const where = "background_gradient::add";
    require_shape(dw, rows_, cols_, where, "dW");
    require_matrix(dw, where, "dW");
    require_weight(weight, where);
    worker_->submit(
        be, bytes(dw), [&](std::byte* p) { be.copy(dw, placed(dw, p)); },
        [g = inner_, shape = dw, weight](B& side, std::byte* p) { g->add(side, placed(shape, p), weight); });
    weight_ += weight;
    ++count_;
  }

  /// dW = dY*XT of one micro-batch. Later work on be's stream may overwrite both.
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    char const* const where = "background_gradient::add_outer";
    require_shape(dy, rows_, x.cols, where, "dY");
    require_shape(x, cols_, dy.cols, where, "X");
    require_matrix(dy, where, "dY");
    require_matrix(x, where, "X");
    require_weight(weight, where);
    index_t const x_at = bytes(dy);
    worker_->submit(
        be, x_at + bytes(x),
        [&](std::byte* p) {
          be.copy(dy, placed(dy, p));
          be.copy(x, placed(x, p + x_at));
        },
        [g = inner_, dy, x, x_at, weight](B& side, std::byte* p) {
          g->add_outer(side, placed(dy, p), placed(x, p + x_at), weight);
        });
    weight_ += weight;
    ++count_;
  }

  /// Everything `other` saw, as if added here. Waits for both.
  /// errors  shape_error
  void merge(B&, background_gradient const& other) {
    if (other.rows_ != rows_ || other.cols_ != cols_)
      raise<shape_error>("background_gradient::merge", "other", shape_text(other.rows_, other.cols_),
                         shape_text(rows_, cols_));
    other.worker_->join();
    worker_->run([&](B& side) { inner_->merge(side, *other.inner_); });
    weight_ += other.weight_;
    count_ += other.count_;
  }
  void reset(B&) {
    worker_->run([&](B& side) { inner_->reset(side); });
    weight_ = 0;
    count_ = 0;
  }

  /// k leading triplets of every member's mean, on `be`. Waits for the background first.
  /// errors  as G::top
  template <class Svd>
  static svd_result<value_type, B> top(B& be, Svd const& svd, std::span<background_gradient const* const> batch,
                                       index_t k) {
    std::vector<G const*> inner;
    for (auto const* g : batch) inner.push_back(&g->finished());
    return G::top(be, svd, std::span<G const* const>(inner), k);
  }
  template <class Svd>
  svd_result<value_type, B> top(B& be, Svd const& svd, index_t k) const {
    background_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }

  /// How many triplets `top` can give.
  index_t most_triplets() const requires requires(G const& g) { g.most_triplets(); }
  { return inner_->most_triplets(); }
  /// to = what G's estimate gives. Waits for the background first, and then for be, because G may change afterwards.
  /// errors  as G::estimate
  void estimate(B& be, matrix_view<value_type, space> to) const requires ReadableGradient<G, B> {
    finished().estimate(be, to);
    be.synchronize();
  }

  /// Waits for the background first.
  template <class C>
  void visit_state(C& c) {
    worker_->join();
    c("inner", *inner_);
    c("weight", weight_);
    c("count", count_);
  }

  /// The accumulator inside. Waits until everything that was handed over has arrived.
  G const& finished() const {
    worker_->join();
    return *inner_;
  }

 private:
  template <class V>
  static index_t bytes(V const& v) {
    index_t const n = v.rows * v.cols * static_cast<index_t>(sizeof(typename V::value_type));
    return (n + 255) / 256 * 256;  // so that what follows is aligned
  }
  /// A packed copy's view, with the direction of the original, so that copying runs along memory.
  template <class V>
  static matrix_view<typename V::value_type, space> placed(V const& v, std::byte* p) {
    auto* const data = reinterpret_cast<typename V::value_type*>(p);
    if (runs_by_rows(v)) return {data, v.rows, v.cols, v.cols, 1};
    return {data, v.rows, v.cols, 1, v.rows};
  }
};

}  // namespace loraga
