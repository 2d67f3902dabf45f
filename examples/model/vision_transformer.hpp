#pragma once
#include <vector>

#include "block.hpp"
#include "image_batch.hpp"
#include "loss.hpp"
#include "weights.hpp"

namespace model {

struct vision_transformer_shape {
  index_t side = 28, patch = 4, width = 64, layers = 3, heads = 4, hidden = 128, classes = 5;
  index_t patches() const { return (side / patch) * (side / patch); }
  index_t tokens() const { return patches() + 1; }
  std::string name() const { return "vit" + dashed({side, patch, width, layers, heads, hidden, classes}); }
};

/// A small vision transformer: patch embedding, class token, pre-norm blocks, linear head on the class token. Written
/// over the backend only, with its backward by hand.
template <class B>
class vision_transformer {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using shape_type = vision_transformer_shape;

  shape_type const shape;
  linear<B> embed, head;
  tensor<B> position;  // column 0 is the class token
  std::vector<block<B>> blocks;
  layer_norm<B> norm;

  vision_transformer(B& be, vision_transformer_shape s)
      : shape(s),
        embed(be, "embed", s.width, s.patch * s.patch),
        head(be, "head", s.classes, s.width),
        position(be, "position", s.width, s.tokens()),
        norm(be, "norm", s.width) {
    for (index_t l = 0; l < s.layers; ++l)
      blocks.emplace_back(be, "block" + std::to_string(l), s.width, s.heads, s.hidden, l + 1 == s.layers);
  }

  /// Random start for pre-training: weights of variance 1/(3*in) as PyTorch's linear layers, zero biases.
  void randomise(B& be, std::uint64_t seed) {
    std::uint64_t stream = 0;
    loraga::fill_normal(be, position.value.view(), {seed, ++stream}, 0.02);
    for (auto* l : linears()) l->randomise(be, {seed, ++stream});
    randomise_head(be, {seed, 0});
  }
  /// The head alone, for a new task. It starts like any linear layer. With a deviation of 0.02, as some recipes have
  /// it, the head's own growth limited the first 100 steps of every method, LoRA+'s most, and comparisons said little.
  void randomise_head(B& be, loraga::random_stream stream) {
    head.randomise(be, stream);
    loraga::fill(be, head.bias.value.view(), 0);
  }

  /// All linear layers but the head.
  std::vector<linear<B>*> linears() {
    std::vector<linear<B>*> all{&embed};
    for (auto& b : blocks)
      for (auto* l : {&b.query, &b.key, &b.value, &b.output, &b.expand, &b.contract}) all.push_back(l);
    return all;
  }
  /// Every tensor of the base model, in a fixed order; the head's two are last.
  std::vector<tensor<B>*> tensors() {
    std::vector<tensor<B>*> all{&position};
    auto const add_norm = [&](layer_norm<B>& n) { all.insert(all.end(), {&n.gain, &n.shift}); };
    for (auto& b : blocks) {
      add_norm(b.norm1);
      add_norm(b.norm2);
    }
    add_norm(norm);
    for (auto* l : linears()) all.insert(all.end(), {&l->weight, &l->bias});
    all.insert(all.end(), {&head.weight, &head.bias});
    return all;
  }

  /// Loss and hits of a batch. With `learn`, gradients of the mean loss are added to everything trainable.
  loss_result run(B& be, image_batch<space> const& batch, bool learn) {
    sequence_shape const s{batch.images.cols, shape.tokens()};
    auto const pixels = pixels_.get(be, embed.in(), shape.patches() * s.count);
    auto const embedded = embedded_.get(be, shape.width, pixels.cols);
    auto const x = x_.get(be, shape.width, s.tokens * s.count);
    be.for_each(pixels.rows, pixels.cols,
                functor::patchify<matrix_view<float const, space>>{batch.images, pixels, shape.side, shape.patch});
    embed.forward(be, pixels, embedded);
    be.for_each(x.rows, x.cols, functor::assemble_tokens{embedded, position.value.view(), x});
    for (auto& b : blocks) b.forward(be, x, s);
    auto const features = features_.get(be, shape.width, s.count), logits = logits_.get(be, shape.classes, s.count);
    norm.forward(be, class_tokens(x, s), features);
    head.forward(be, features, logits);

    auto const result = cross_entropy(be, logits, batch.labels);
    if (learn) backward(be, pixels, features, logits, x, s);
    return result;
  }

 private:
  activations<B> pixels_, embedded_, x_, features_, logits_;

  view class_tokens(view x, sequence_shape s) const { return {x.data, x.rows, s.count, 1, x.col_stride * s.tokens}; }

  void backward(B& be, view pixels, view features, view dlogits, view dx, sequence_shape s) {
    loraga::scratch<B> temporary(be);
    auto const dfeatures = temporary.template matrix<float>(shape.width, s.count);
    head.backward(be, features, dlogits, dfeatures);
    loraga::fill(be, dx, 0);  // the stream is no longer needed: its memory takes the gradient
    norm.backward(be, dfeatures, class_tokens(dx, s));
    for (std::size_t l = blocks.size(); l-- > 0;) blocks[l].backward(be, dx, s);
    if (position.trainable) be.for_each(shape.width, s.tokens, functor::sum_positions{dx, position.gradient.view()});
    auto const dembedded = temporary.template matrix<float>(shape.width, pixels.cols);
    be.for_each(shape.width, pixels.cols, functor::split_tokens{dx, dembedded, s.tokens});
    embed.backward(be, pixels, dembedded, view{});
  }
};

}  // namespace model
