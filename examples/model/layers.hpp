#pragma once
#include <string>

#include "adapter_slot.hpp"
#include "functors.hpp"

namespace model {

using loraga::matrix;
using loraga::matrix_view;

/// A tensor of the base model. Frozen ones collect no gradient, and have no memory for one unless they ever trained.
template <class B>
struct tensor {
  std::string name;
  matrix<float, B> value, gradient;
  bool trainable = false;

  tensor(B& be, std::string n, index_t rows, index_t cols) : name(std::move(n)), value(be, rows, cols) {
    loraga::fill(be, value.view(), 0);
  }
  void train(B& be, bool on) {
    trainable = on;
    if (!on || gradient.rows() > 0) return;
    gradient = matrix<float, B>(be, value.rows(), value.cols());
    loraga::fill(be, gradient.view(), 0);
  }
  loraga::parameter<float, typename B::space> parameter() {
    return {name.c_str(), loraga::parameter_kind::other, value.view(), gradient.view(), {}};
  }
};

/// Memory for a block of activations that only ever grows.
template <class B>
class activations {
  matrix<float, B> memory_;

 public:
  matrix_view<float, typename B::space> get(B& be, index_t rows, index_t cols) {
    if (memory_.rows() * memory_.cols() < rows * cols) memory_ = matrix<float, B>(be, rows * cols, 1);
    return {memory_.view().data, rows, cols, 1, rows};
  }
};

/// What all layers with a weight matrix have: W and b and, at the user's choice, a trainable W, an adapter beside a
/// frozen one, or accumulators that watch the gradient W would get, or the inputs. Starts, optimisers and checkpoints
/// see no more of a layer than this.
template <class B>
class weighted_layer {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;

  tensor<B> weight, bias;  // weight is stored in x out, so that its transposed view is a row-major out x in
  adapter_slot<B> adapter;
  loraga::dense_gradient<B>* watcher = nullptr;
  double watch_weight = 1;  // of what the watcher sees
  loraga::input_statistics<B>* listener = nullptr;

  weighted_layer(B& be, std::string const& name, index_t out, index_t in)
      : weight(be, name + ".weight", in, out), bias(be, name + ".bias", out, 1) {}
  index_t out() const { return weight.value.cols(); }
  index_t in() const { return weight.value.rows(); }
  view w() { return weight.value.view().transposed(); }

  /// Weights of variance 1/(3*in), as PyTorch starts linear layers and convolutions.
  void randomise(B& be, loraga::random_stream stream) {
    loraga::fill_normal(be, weight.value.view(), stream, 1 / std::sqrt(3.0 * static_cast<double>(in())));
  }

 protected:
  /// Gradients of what is trainable, from the gradient of W*x.
  template <class X, class Y>
  void add_gradients(B& be, X x, Y dy) {
    if (watcher) watcher->add_outer(be, dy, x, watch_weight);
    if (weight.trainable) be.gemm(1.0, dy, x.transposed(), 1.0, weight.gradient.view().transposed());
    if (bias.trainable) {
      loraga::scratch<B> temporary(be);
      auto const ones = temporary.template matrix<float>(dy.cols, 1);
      loraga::fill(be, ones, 1);
      be.gemm(1.0, dy, ones, 1.0, bias.gradient.view());
    }
  }
};

/// y = W*x + b. This is all a training loop has to do to host an adapter.
template <class B>
class linear : public weighted_layer<B> {
 public:
  using weighted_layer<B>::weighted_layer, weighted_layer<B>::adapter, weighted_layer<B>::w;
  using typename weighted_layer<B>::view;

  /// y = W*x + b, or y += W*x + b.
  template <class X>
  void forward(B& be, X x, view y, bool accumulate = false) {
    if (this->listener) this->listener->add(be, x);
    be.for_each(y.rows, y.cols, functor::add_bias{y, this->bias.value.view(), accumulate});
    if (!adapter.wants_product()) {
      be.gemm(1.0, w(), x, 1.0, y);
      return adapter.forward(be, w(), x, view{}, y);
    }
    loraga::scratch<B> temporary(be);
    auto const product = temporary.template matrix<float>(y.rows, y.cols);
    be.gemm(1.0, w(), x, 0.0, product);
    loraga::axpby(be, 1.0, product, 1.0, y);
    adapter.forward(be, w(), x, product, y);
  }

  /// Gradients of what is trainable; dx = WT*dy + the adapter's share, or dx += that (an empty dx is skipped).
  template <class X>
  void backward(B& be, X x, view dy, view dx, bool accumulate = false) {
    this->add_gradients(be, x, dy);
    auto const seen = adapter.backward(be, w(), x, dy, dx, accumulate ? 1.0 : 0.0);
    if (dx.data) be.gemm(1.0, w().transposed(), seen, accumulate || adapter.active() ? 1.0 : 0.0, dx);
  }
};

/// Layer normalisation over each token's features.
template <class B>
class layer_norm {
  activations<B> normalised_, inverse_;
  float epsilon_;

 public:
  using view = matrix_view<float, typename B::space>;
  tensor<B> gain, shift;
  layer_norm(B& be, std::string const& name, index_t width, float epsilon = 1e-5f)
      : epsilon_(epsilon), gain(be, name + ".gain", width, 1), shift(be, name + ".shift", width, 1) {
    loraga::fill(be, gain.value.view(), 1);
  }
  void forward(B& be, view x, view y) {
    auto const n = normalised_.get(be, x.rows, x.cols), s = inverse_.get(be, 1, x.cols);
    be.for_each(1, x.cols, functor::layer_norm{x, gain.value.view(), shift.value.view(), n, s, y, epsilon_});
  }
  /// dx += the gradient through this layer, or dx = that.
  void backward(B& be, view dy, view dx, bool accumulate = true) {
    auto const n = normalised_.get(be, dy.rows, dy.cols), s = inverse_.get(be, 1, dy.cols);
    if (gain.trainable)
      be.for_each(dy.rows, 1, functor::layer_norm_parameters{dy, n, gain.gradient.view(), shift.gradient.view()});
    be.for_each(1, dy.cols, functor::layer_norm_backward{dy, gain.value.view(), n, s, dx, accumulate});
  }
};

}  // namespace model
