#pragma once
#include <exception>
#include <functional>
#include <loraga/adapter/lora.hpp>
#include <loraga/ggml/factors.hpp>
#include <loraga/ggml/products.hpp>

namespace loraga::ggml_bridge {

/// LoRA around a linear layer that ggml computes: W stays ggml's, in any type and never written, A and B are tensors of
/// ggml's, and W*x is ggml_mul_mat. The adapter's part is a node of the same graph.
///   linear<cpu> layer(be, w, new_factors(ctx, out, in, 8, "blk.0.attn_q.weight"), rank_stable_scaling{.alpha = 16});
///   linear<cpu>::pass pass;                             // one per use of the layer in a graph, as long as the graph
///   y = layer.build(graph_ctx, x, pass);                // instead of ggml_mul_mat(graph_ctx, w, x)
///   layer.backward(pass, dy, dx);                       // after the graph was computed
/// math    y = W*x + s*B*A*x; passes are lora's
/// memory  lora's, but for A, B and their gradients; what dX needs of W is unpacked by rows
/// cost    lora's beside ggml's own product. The node runs on one thread of ggml and those of `be`, while ggml's others
///         spin: give either of them the cores
/// errors  shape_error, value_error, state_error for a weight or factors that cannot be used (packed, borrowed)
template <Backend B>
requires std::same_as<typename B::space, host_space>
class linear {
  using numbers = matrix_view<float, host_space>;
  using read_numbers = matrix_view<float const, host_space>;

  B* be_;
  ggml_tensor* w_;
  lora<float, B> adapter_;
  std::function<void(read_numbers dy, read_numbers x)> watcher_;

 public:
  /// What backward needs from forward. It stays where it is, because the graph points to it.
  class pass {
    friend class linear;
    linear* layer_ = nullptr;
    ggml_tensor *x_ = nullptr, *y_ = nullptr;
    typename lora<float, B>::tape tape_;
    std::exception_ptr failure_;
    bool computed_ = false;

   public:
    pass() = default;
    pass(pass const&) = delete;
    pass& operator=(pass const&) = delete;

    /// Throws what went wrong in the graph, where nothing may be thrown; the output is NaN then. backward asks, too.
    /// errors  lora::forward's and activations'; state_error if no graph with this pass was computed
    void check() const {
      if (failure_) std::rethrow_exception(failure_);
      if (!computed_)
        raise<state_error>("ggml_bridge::linear", "pass", "not computed", "one of a graph that was computed");
    }
  };

  template <Scaling S>
  linear(B& be, ggml_tensor* w, factor_tensors const& factors, S const& scaling, lora_options options = {})
      : be_(&be), w_(w), adapter_(be, borrowed(factors), scaling, options) {
    auto const from = packed(w);
    if (adapter_.out() != from.rows() || adapter_.in() != from.cols())
      raise<shape_error>("ggml_bridge::linear", "B*A", shape_text(adapter_.out(), adapter_.in()),
                         shape_text(from.rows(), from.cols()) + ", as " + from.label);
  }
  linear(linear const&) = delete;  // graphs point to it
  linear& operator=(linear const&) = delete;

  lora<float, B>& adapter() { return adapter_; }  ///< for `initialise`, optimisers and files
  ggml_tensor const* base() const { return w_; }  ///< the frozen W

  /// While one is set, backward hands it dY and X: to an accumulator's add_outer, which estimates W's gradient. An
  /// adapter without a start does nothing meanwhile.
  void watch(std::function<void(read_numbers dy, read_numbers x)> watcher) { watcher_ = std::move(watcher); }

  /// The layer's nodes, instead of ggml_mul_mat(context, W, x). x is kept until the graph is computed again
  /// (ggml_set_output), because backward reads it. For graphs that ggml computes on the CPU.
  /// errors  shape_error, value_error for an x that the layer does not take; state_error for a pass of another layer
  ggml_tensor* build(ggml_context* context, ggml_tensor* x, pass& p) {
    char const* const where = "ggml_bridge::linear::build";
    if (!x) raise<value_error>(where, "x", "a null pointer", "a tensor");
    if (x->type != GGML_TYPE_F32) raise<value_error>(where, "x", tensor_text(*x), "F32: ggml_cast makes it so");
    if (x->ne[0] != adapter_.in())
      raise<shape_error>(where, "x", tensor_text(*x), "ne[0] = " + std::to_string(adapter_.in()));
    if (p.layer_ && p.layer_ != this)
      raise<state_error>(where, "pass", "of another layer", "a new one, or this layer's");
    p.layer_ = this;
    p.computed_ = false;
    for (auto* t = x; t; t = t->view_src) ggml_set_output(t);
    p.x_ = x;
    p.y_ = ggml_map_custom2_inplace(context, ggml_mul_mat(context, w_, x), x, run, 1, &p);
    return p.y_;
  }

  /// Adds the gradients of A and B, and sets dX, W's part of it included. Without dX that part is skipped.
  /// math    dX = beta*dX + WT*dY + s*AT*BT*dY
  /// errors  what went wrong in the graph; lora::backward's; state_error for another layer's pass, or one that was not
  ///         computed since the last backward
  void backward(pass& p, read_numbers dy, numbers dx = {}, double beta = 0) {
    if (p.layer_ != this)
      raise<state_error>("ggml_bridge::linear::backward", "pass", "of another layer, or of none",
                         "one that this layer's build was given");
    p.check();
    auto const x = read_only(activations<float>(p.x_));
    require_shape(dy, adapter_.out(), x.cols, "ggml_bridge::linear::backward", "dY");
    if (dx.rows * dx.cols > 0) require_shape(dx, adapter_.in(), x.cols, "ggml_bridge::linear::backward", "dX");
    if (adapter_.started()) {
      static_cast<void>(adapter_.backward(*be_, no_weight_view(), x, dy, p.tape_, beta, dx));
      beta = 1;
    }
    if (watcher_) watcher_(dy, x);
    if (dx.rows * dx.cols > 0) multiply_transposed(*be_, w_, dy, beta, dx);
    p.computed_ = false;
  }

 private:
  static read_numbers no_weight_view() { return {}; }  // lora's passes read none

  void forward(pass& p, numbers x, numbers y) {
    if (!adapter_.started() && watcher_) return;
    adapter_.forward(*be_, no_weight_view(), x, y, p.tape_);
  }

  /// ggml's call: y is W*x, and becomes y + s*B*A*x. Through C no exception may pass.
  static void run(ggml_tensor* y, ggml_tensor const*, ggml_tensor const* x, int thread, int, void* data) {
    if (thread != 0) return;
    auto& p = *static_cast<pass*>(data);
    p.computed_ = true;
    p.failure_ = nullptr;
    try {
      p.layer_->forward(p, activations<float>(const_cast<ggml_tensor*>(x)), activations<float>(y));
    } catch (...) {
      p.failure_ = std::current_exception();
      spoil(*y);
    }
  }
  /// A result that nobody can take for one.
  static void spoil(ggml_tensor const& y) noexcept {
    float const nan = bits_as<float>(std::uint32_t{0x7fc00000u});
    if (y.data && y.type == GGML_TYPE_F32 && ggml_is_contiguous(&y))
      std::fill_n(static_cast<float*>(y.data), ggml_nelements(&y), nan);
  }
};

}  // namespace loraga::ggml_bridge
