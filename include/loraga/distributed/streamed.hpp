#pragma once
#include <loraga/distributed/buckets.hpp>
#include <loraga/gradient/model_gradient.hpp>

namespace loraga {

namespace detail {

/// What a rank adds to products of an incremental update: all ranks' parts.
template <class C>
struct many_ranks {
  static constexpr bool alone = false;
  C& comm;
  bucket_options options;
  bool holds_base;
  template <class B, class V>
  void sum(B& be, std::vector<V> const& views) const {
    all_reduce_views(be, comm, std::span<V const>(views), options);
  }
  template <class B>
  void join_flags(B& be, std::vector<int>& flags) const {
    for (auto const& text : agree(be, comm, "a streamed update", {}, packed(flags))) {
      auto const theirs = unpacked<int>(text);
      for (std::size_t i = 0; i < flags.size(); ++i) flags[i] |= theirs[i];
    }
  }
};

}  // namespace detail

/// The mean gradients of a model's layers over the micro-batches of all ranks, which add up products with thin matrices
/// instead of gradients: after each micro-batch every rank has the estimate that model_gradient would have of all
/// ranks' micro-batches side by side. Each rank feeds every layer once per micro-batch, in the same order of layers; a
/// rank without data calls add_nothing. Layers wait in a queue until a bucket is full; `flush` ends a micro-batch.
/// math    that of incremental_gradient, whose products are sums over ranks: each adds its weight*dY*XT, and one of them
///         the estimate so far
/// loss    that of incremental_gradient over micro-batches of all ranks together; to rounding nothing more. There is no
///         error to feed back: M is never formed, and what falls behind `width` has nowhere to be kept
/// cost    sends 2*(1 - 1/ranks)*(out + in)*l numbers per micro-batch and layer, l = width + max(16, 3*width/16),
///         and half as much once more per power step; three messages per bucket, one of them of two numbers per layer
/// memory  the estimate, on every rank; copies of dY and X of the layers of one bucket, and l numbers for each token and
///         layer of it
/// source  as incremental_gradient; the products' sums as in PowerSGD (arXiv:1905.13727) and Dion (arXiv:2504.05295)
template <class C, class B, class T = float>
class streamed_gradient {
  using space = typename B::space;
  using view = matrix_view<T const, space>;
  struct entry {
    index_t layer = 0, tokens = 0;
    double weight = 0;
    matrix<T, B> memory;
  };
  C* comm_;
  model_gradient<B, T> estimate_;
  std::vector<layer_size> sizes_;
  gradient_options options_;
  bucket_options bucket_;
  std::vector<entry> queue_;  // memory is kept
  std::size_t waiting_ = 0;
  index_t numbers_ = 0;

 public:
  /// errors  as model_gradient's constructor
  streamed_gradient(B& be, C& comm, std::span<layer_size const> layers, gradient_options options = {},
                    bucket_options bucket = {})
      : comm_(&comm),
        estimate_(be, layers, options),
        sizes_(layers.begin(), layers.end()),
        options_(options),
        bucket_(bucket) {}

  /// dW = dY*XT of one layer and this rank's micro-batch. The next one of a layer that still waits calls `flush` first.
  /// shapes  dY out x tokens, X in x tokens
  /// errors  shape_error; value_error for a weight that is not positive, or a layer that there is not
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, index_t layer, Y dy, X x, double weight = 1) {
    auto const where = "streamed_gradient::add_outer";
    auto const& size = checked(layer, where);
    require_shape(dy, size.out, x.cols, where, "dY");
    require_shape(x, size.in, dy.cols, where, "X");
    require_weight(weight, where);
    auto const [left, right] = enqueue(be, layer, dy.cols, weight);
    convert(be, dy, left);
    convert(be, x, right);
    if (full()) flush(be);
  }
  /// Takes part for a layer without adding anything.
  /// errors  value_error for a layer that there is not
  void add_nothing(B& be, index_t layer) {
    checked(layer, "streamed_gradient::add_nothing");
    auto const [left, right] = enqueue(be, layer, 1, 0);
    fill(be, left, 0);
    fill(be, right, 0);
    if (full()) flush(be);
  }
  /// Brings what waits into the estimate. All ranks call it together: after each micro-batch, and before `estimate`.
  /// errors  rank_error, the same on every rank, if one failed or fed other layers
  void flush(B& be) {
    if (comm_->size() > 1 || waiting_ > 0) absorb(be);
    waiting_ = 0;
    numbers_ = 0;
  }
  /// All ranks' estimate so far, the same on every rank.
  /// errors  state_error if something waits in the queue
  model_gradient<B, T> const& estimate() const {
    if (waiting_ > 0)
      raise<state_error>("streamed_gradient::estimate", "queue", std::to_string(waiting_) + " layers long",
                         "empty: call flush, on every rank");
    return estimate_;
  }
  /// The same, to go on with.
  model_gradient<B, T>& estimate() { return const_cast<model_gradient<B, T>&>(std::as_const(*this).estimate()); }

  template <class V>
  void visit_state(V& v) {
    v("estimate", estimate());
  }

 private:
  layer_size const& checked(index_t layer, std::string_view where) const {
    require_value(layer >= 0 && layer < estimate_.size(), static_cast<double>(layer), where, "layer",
                  "0.." + std::to_string(estimate_.size() - 1));
    return sizes_[static_cast<std::size_t>(layer)];
  }
  static std::pair<matrix_view<T, space>, matrix_view<T, space>> views(entry& e, layer_size const& s) {
    T* const p = e.memory.view().data;
    return {matrix_view<T, space>(p, s.out, e.tokens, 1, s.out),
            matrix_view<T, space>(p + s.out * e.tokens, s.in, e.tokens, 1, s.in)};
  }
  auto enqueue(B& be, index_t layer, index_t tokens, double weight) {
    auto const& s = sizes_[static_cast<std::size_t>(layer)];
    for (std::size_t i = 0; i < waiting_; ++i)
      if (queue_[i].layer == layer) {  // its next micro-batch: on top of the one that waits
        flush(be);
        break;
      }
    if (waiting_ == queue_.size()) queue_.emplace_back();
    auto& e = queue_[waiting_];
    if (index_t const n = (s.out + s.in) * tokens; e.memory.rows() < n) e.memory = {be, n, 1};
    e.layer = layer, e.tokens = tokens, e.weight = weight;
    ++waiting_;
    index_t const width = estimate_[layer].width();
    numbers_ += (s.out + s.in) * (width + detail::new_directions(width));
    return views(e, s);
  }
  bool full() const { return numbers_ * static_cast<index_t>(sizeof(T)) >= bucket_.bytes; }

  void absorb(B& be) {
    std::string layers = detail::bucket_line(bucket_);
    std::vector<double> mine;
    for (std::size_t i = 0; i < waiting_; ++i) {
      auto const at = queue_[i].layer;
      auto const& s = sizes_[static_cast<std::size_t>(at)];
      layers += "layer " + std::to_string(at) + ": " + shape_text(s.out, s.in) + ", width " +
                std::to_string(estimate_[at].width()) + ", power_steps " + std::to_string(options_.power_steps) +
                ", seed " + std::to_string(options_.seed) + "\n";
      // a layer that adds nothing has one token that is zero, which no sum contains
      mine.insert(mine.end(), {queue_[i].weight, queue_[i].weight > 0 ? static_cast<double>(queue_[i].tokens) : 0});
    }
    auto const brought = agree(be, *comm_, "streamed_gradient::flush", layers, detail::packed(mine));
    std::vector<double> weights(waiting_, 0.0), tokens(waiting_, 0.0);
    for (auto const& text : brought) {
      auto const theirs = detail::unpacked<double>(text);
      for (std::size_t i = 0; i < waiting_; ++i) weights[i] += theirs[2 * i], tokens[i] += theirs[2 * i + 1];
    }
    using op = outer_operator<view, view, T, space>;
    using update = detail::incremental_update<B, T, op>;
    std::vector<update> updates;
    for (std::size_t i = 0; i < waiting_; ++i) {
      auto const [left, right] = views(queue_[i], sizes_[static_cast<std::size_t>(queue_[i].layer)]);
      updates.emplace_back(estimate_[queue_[i].layer], op{left, right, queue_[i].weight, {}},
                           std::max<index_t>(1, static_cast<index_t>(tokens[i])));
    }
    detail::many_ranks<C> const ranks{*comm_, bucket_, comm_->rank() == 0};
    detail::move_data(*comm_, [&] { update::run(be, std::span<update>(updates), ranks); });
    for (std::size_t i = 0; i < waiting_; ++i)
      if (weights[i] > 0) estimate_[queue_[i].layer].note(weights[i]);
  }
};

}  // namespace loraga
