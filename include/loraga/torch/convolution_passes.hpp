#pragma once
#include <ATen/ops/empty.h>

#include <loraga/adapter/convolution.hpp>
#include <loraga/adapter/lora.hpp>
#include <loraga/gradient/dense.hpp>
#include <loraga/torch/view.hpp>

namespace loraga::libtorch::detail {

/// A 2-D convolution's passes on tensors, in either memory format.
template <Element T, class B, Element U>
class convolution_passes {
  using space = typename B::space;
  using layer = convolution<lora<T, B>, B>;
  layer layer_;

  static auto images_of(at::Tensor const& t, char const* name) { return images<U, space>(t, "lora_conv2d", name); }
  static at::Tensor viewable_images(at::Tensor const& t, char const* name) {
    return viewable(t, [&](auto const& v) { return images_of(v, name); });
  }
  template <class V>
  static image_view<U const, space> read_only_images(V v) {
    return v;
  }

 public:
  using tape = typename layer::tape;
  using element = T;
  using backend = B;
  using base_element = U;

  convolution_passes(convolution_geometry const& geometry, lora<T, B> adapter) : layer_(geometry, std::move(adapter)) {}
  /// What initialisers, anchors, merge and files work on.
  lora<T, B>& adapter() { return layer_.adapter(); }
  lora<T, B> const& adapter() const { return layer_.adapter(); }

  /// The tensor, or a contiguous copy where it cannot be seen as images as it lies.
  static at::Tensor input(at::Tensor const& x) { return viewable_images(x, "X"); }
  static at::Tensor output(at::Tensor const& y, char const* name) { return viewable_images(y, name); }
  /// y += s*B*A*windows(x)
  void forward(B& be, at::Tensor const& x, at::Tensor const& y, tape& t) {
    layer_.forward(be, const_view<U, space>{}, read_only_images(images_of(x, "X")), images_of(y, "Y"), t);
  }
  /// Adds the gradients of A and B.  returns  the adapter's share of dX, undefined where it is not wanted
  at::Tensor backward(B& be, at::Tensor const& x, at::Tensor const& dy, tape& t, bool wants_dx) {
    at::Tensor dx;
    image_view<U, space> dX;
    if (wants_dx) {
      dx = at::empty(x.sizes(), x.options());
      dX = images_of(dx, "dX");
    }
    (void)layer_.backward(be, const_view<U, space>{}, read_only_images(images_of(x, "X")),
                          read_only_images(images_of(dy, "dY")), t, 0.0, dX);
    return dx;
  }
  /// dW of one micro-batch, formed here: a convolution's is small.
  template <class Sink>
  void add_gradient(B& be, Sink& sink, at::Tensor const& x, at::Tensor const& dy) const {
    dense_gradient<B, compute_t<U>> dw(be, adapter().out(), adapter().in());
    layer_.add_gradient(be, dw, read_only_images(images_of(dy, "dY")), read_only_images(images_of(x, "X")));
    sink.add(be, dw.sum());
  }
};

}  // namespace loraga::libtorch::detail
