#pragma once
#include <ATen/ops/empty.h>

#include <loraga/adapter/lora.hpp>
#include <loraga/torch/view.hpp>

namespace loraga::libtorch::detail {

/// A linear layer's passes on tensors: any leading dimensions are tokens. U is the base's element type, T the
/// adapter's.
template <Element T, class B, Element U>
class linear_passes {
  using space = typename B::space;
  static constexpr char const* where = "lora_linear";
  lora<T, B> adapter_;

  static auto tokens(at::Tensor const& t, char const* name) { return flattened<U, space>(t, where, name); }

 public:
  using tape = typename lora<T, B>::tape;
  using element = T;
  using backend = B;
  using base_element = U;

  explicit linear_passes(lora<T, B> adapter) : adapter_(std::move(adapter)) {}
  /// What initialisers, anchors, merge and files work on.
  lora<T, B>& adapter() { return adapter_; }
  lora<T, B> const& adapter() const { return adapter_; }

  /// The tensor, or a contiguous copy where products cannot use it as it lies.
  static at::Tensor input(at::Tensor const& x) {
    return viewable(x, [](auto const& t) { return tokens(t, "X"); });
  }
  static at::Tensor output(at::Tensor const& y, char const* name) {
    return viewable(y, [&](auto const& t) { return tokens(t, name); });
  }
  /// y += s*B*A*x
  void forward(B& be, at::Tensor const& x, at::Tensor const& y, tape& t) {
    adapter_.forward(be, const_view<U, space>{}, read_only(tokens(x, "X")), tokens(y, "Y"), t);
  }
  /// Adds the gradients of A and B.  returns  the adapter's share of dX, undefined where it is not wanted
  at::Tensor backward(B& be, at::Tensor const& x, at::Tensor const& dy, tape& t, bool wants_dx) {
    auto const X = read_only(tokens(x, "X")), dY = read_only(tokens(dy, "dY"));
    at::Tensor dx;
    matrix_view<U, space> dX;
    if (wants_dx) {
      dx = at::empty(x.sizes(), x.options());
      dX = tokens(dx, "dX");
    }
    (void)adapter_.backward(be, const_view<U, space>{}, X, dY, t, 0.0, dX);
    return dx;
  }
  /// dW of one micro-batch.
  template <class Sink>
  void add_gradient(B& be, Sink& sink, at::Tensor const& x, at::Tensor const& dy) const {
    sink.add_outer(be, tokens(dy, "dY"), tokens(x, "X"));
  }
};

}  // namespace loraga::libtorch::detail
