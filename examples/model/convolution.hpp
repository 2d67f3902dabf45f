#pragma once
#include "layers.hpp"

namespace model {

template <class B>
using images = loraga::image_view<float, typename B::space>;

/// A 2-D convolution of images in NCHW memory: y = W*unfold(x) + b. Its adapter is a matrix adapter of W's shape, as
/// for a linear layer; passes go through the library's `convolution`.
template <class B>
class convolution : public weighted_layer<B> {
  /// The adapter where it is, for the library's convolution, which wants to own one.
  struct lent {
    using any = loraga::any_adapter<float, B>;
    using tape = typename any::tape;
    any* adapter;
    index_t in() const { return adapter->in(); }
    index_t out() const { return adapter->out(); }
    bool merged() const { return adapter->merged(); }
    template <class... T>
    void forward(B& be, T&&... all) {
      adapter->forward(be, std::forward<T>(all)...);
    }
    template <class... T>
    auto backward(B& be, T&&... all) {
      return adapter->backward(be, std::forward<T>(all)...);
    }
  };
  using passes = loraga::convolution<lent, B>;
  loraga::convolution_geometry geometry_;
  typename passes::tape tape_;

  template <class X>
  auto unfolded(B& be, loraga::scratch<B>& temporary, X x, images<B> y) const {
    auto const windows = loraga::scratch_images<float>(temporary, x.count, geometry_.in(), y.height, y.width);
    loraga::unfold(be, geometry_, x, windows);
    return windows.matrix();
  }

 public:
  convolution(B& be, std::string const& name, index_t out, loraga::convolution_geometry const& geometry)
      : weighted_layer<B>(be, name, out, geometry.in()), geometry_(geometry) {}
  loraga::convolution_geometry const& geometry() const { return geometry_; }

  template <class X>
  void forward(B& be, X x, images<B> y) {
    {
      loraga::scratch<B> temporary(be);
      auto const windows = unfolded(be, temporary, x, y);
      auto const product = loraga::scratch_images<float>(temporary, y.count, y.channels, y.height, y.width);
      if (this->listener) this->listener->add(be, windows);
      be.gemm(1.0, this->w(), windows, 0.0, product.matrix());
      be.for_each(y.pixels(), y.count * y.channels,
                  functor::add_channel_bias<images<B>>{product, y, this->bias.value.view()});
    }
    if (this->adapter.active()) passes(geometry_, lent{&*this->adapter}).forward(be, this->w(), x, y, tape_);
  }

  /// Gradients of what is trainable; dx = the gradient of x (skipped if it is empty).
  template <class X>
  void backward(B& be, X x, images<B> dy, images<B> dx) {
    loraga::image_view<float const, typename B::space> seen = dy;
    if (this->adapter.active())
      seen = passes(geometry_, lent{&*this->adapter}).backward(be, this->w(), x, dy, tape_, 0.0, dx);
    loraga::scratch<B> temporary(be);
    auto const sums = loraga::scratch_images<float>(temporary, dy.count, dy.channels, dy.height, dy.width);
    if (this->watcher || this->weight.trainable || this->bias.trainable) {
      loraga::scratch<B> windows(be);
      loraga::copy_images(be, dy, sums);
      this->add_gradients(be, unfolded(be, windows, x, dy), sums.matrix());
    }
    if (dx.size() == 0) return;
    loraga::copy_images(be, seen, sums);
    auto const d_windows = loraga::scratch_images<float>(temporary, x.count, geometry_.in(), dy.height, dy.width);
    be.gemm(1.0, this->w().transposed(), sums.matrix(), 0.0, d_windows.matrix());
    loraga::fold(be, geometry_, d_windows, this->adapter.active() ? 1.0 : 0.0, dx);
  }
};

}  // namespace model
