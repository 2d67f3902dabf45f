#pragma once
#include <vector>

#include "convolution.hpp"
#include "image_batch.hpp"
#include "loss.hpp"
#include "weights.hpp"

namespace model {

struct convolutional_network_shape {
  index_t side = 28;
  std::vector<index_t> channels{16, 32, 64};
  index_t hidden = 64, classes = 5;
  std::string name() const {
    return "convolution-" + std::to_string(side) + dashed(channels) + dashed({hidden, classes});
  }
};

/// A small convolutional network: 3x3 convolutions of stride 2, each followed by GELU; a hidden layer on all that is
/// left of the image; a linear head. Activations are NCHW memory, an image a column. Its backward is by hand.
template <class B>
class convolutional_network {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using shape_type = convolutional_network_shape;

  shape_type const shape;
  std::vector<convolution<B>> convolutions;
  linear<B> hidden, head;

  convolutional_network(B& be, shape_type s)
      : shape(std::move(s)),
        hidden(be, "hidden", shape.hidden, size(shape.channels.size())),
        head(be, "head", shape.classes, shape.hidden),
        before_(shape.channels.size()),
        after_(shape.channels.size()) {
    for (std::size_t l = 0; l < shape.channels.size(); ++l)
      convolutions.emplace_back(be, "convolution" + std::to_string(l), shape.channels[l],
                                loraga::convolution_geometry{channels(l), axis(), axis()});
  }

  /// Random start for pre-training.
  void randomise(B& be, std::uint64_t seed) {
    std::uint64_t stream = 0;
    for (auto* l : linears()) l->randomise(be, {seed, ++stream});
    randomise_head(be, {seed, 0});
  }
  void randomise_head(B& be, loraga::random_stream stream) {
    head.randomise(be, stream);
    loraga::fill(be, head.bias.value.view(), 0);
  }

  /// All layers with a weight matrix but the head.
  std::vector<weighted_layer<B>*> linears() {
    std::vector<weighted_layer<B>*> all;
    for (auto& c : convolutions) all.push_back(&c);
    all.push_back(&hidden);
    return all;
  }
  /// Every tensor of the base model, in a fixed order; the head's two are last.
  std::vector<tensor<B>*> tensors() {
    std::vector<tensor<B>*> all;
    for (auto* l : linears()) all.insert(all.end(), {&l->weight, &l->bias});
    all.insert(all.end(), {&head.weight, &head.bias});
    return all;
  }

  /// Loss and hits of a batch. With `learn`, gradients of the mean loss are added to everything trainable.
  loss_result run(B& be, image_batch<space> const& batch, bool learn) {
    index_t const count = batch.images.cols;
    for (std::size_t l = 0; l < convolutions.size(); ++l) {
      auto const f = before(be, l, count), g = after(be, l, count);
      with_input(be, l, batch, [&](auto x) { convolutions[l].forward(be, x, as_images(f, l + 1)); });
      be.for_each(f.rows, f.cols, functor::gelu{f, g});
    }
    auto const last = after(be, convolutions.size() - 1, count);
    auto const f = hidden_before_.get(be, shape.hidden, count), g = hidden_after_.get(be, shape.hidden, count);
    auto const logits = logits_.get(be, shape.classes, count);
    hidden.forward(be, last, f);
    be.for_each(f.rows, f.cols, functor::gelu{f, g});
    head.forward(be, g, logits);
    auto const result = cross_entropy(be, logits, batch.labels);
    if (learn) backward(be, batch, f, g, logits);
    return result;
  }

 private:
  std::vector<activations<B>> before_, after_;  // of each convolution's GELU
  activations<B> hidden_before_, hidden_after_, logits_;

  static loraga::convolution_axis axis() { return {.kernel = 3, .stride = 2, .padding = 1}; }
  /// Of what goes into convolution l; behind the last one, of what comes out.
  index_t channels(std::size_t l) const { return l == 0 ? 1 : shape.channels[l - 1]; }
  index_t side(std::size_t l) const { return l == 0 ? shape.side : axis().outputs(side(l - 1)); }
  index_t size(std::size_t l) const { return channels(l) * side(l) * side(l); }
  images<B> as_images(view x, std::size_t l) const {
    return loraga::nchw<space>(x.data, x.cols, channels(l), side(l), side(l));
  }
  view before(B& be, std::size_t l, index_t count) { return before_[l].get(be, size(l + 1), count); }
  view after(B& be, std::size_t l, index_t count) { return after_[l].get(be, size(l + 1), count); }
  /// f(the images that convolution l reads).
  template <class F>
  void with_input(B& be, std::size_t l, image_batch<space> const& batch, F const& f) {
    if (l > 0) return f(as_images(after(be, l - 1, batch.images.cols), l));
    auto const& x = batch.images;
    f(loraga::image_view<float const, space>(x.data, x.cols, 1, shape.side, shape.side, x.col_stride, x.rows, 1));
  }

  void backward(B& be, image_batch<space> const& batch, view f, view g, view dlogits) {
    index_t const count = batch.images.cols;
    std::size_t const last = convolutions.size() - 1;
    loraga::scratch<B> temporary(be);
    auto const like = [&](view v) { return temporary.template matrix<float>(v.rows, v.cols); };
    auto const dg = like(g);
    head.backward(be, g, dlogits, dg);
    be.for_each(f.rows, f.cols, functor::gelu_backward{f, dg});
    auto dx = like(after(be, last, count));
    hidden.backward(be, after(be, last, count), dg, dx);
    for (std::size_t l = last + 1; l-- > 0;) {
      auto const dy = dx, fl = before(be, l, count);
      be.for_each(fl.rows, fl.cols, functor::gelu_backward{fl, dy});
      if (l > 0) dx = like(after(be, l - 1, count));
      auto const to = l > 0 ? as_images(dx, l) : images<B>();
      with_input(be, l, batch, [&](auto x) { convolutions[l].backward(be, x, as_images(dy, l + 1), to); });
    }
  }
};

}  // namespace model
