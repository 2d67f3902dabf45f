#pragma once
#include <vector>

#include "encoder_block.hpp"
#include "loss.hpp"

namespace model {

/// Sizes of a BERT encoder; the numbers are all-MiniLM-L6-v2's.
struct text_encoder_shape {
  index_t vocabulary = 30522, positions = 512, types = 2;
  index_t width = 384, layers = 6, heads = 12, hidden = 1536, classes = 2;
  float epsilon = 1e-12f;
};

/// BERT with mean pooling over tokens and a linear head on the pooled vector. Written over the backend only, with its
/// backward by hand. Tensors carry the names of the Hugging Face checkpoint.
template <class B>
class text_encoder {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using batch_type = text_batch<space>;
  using shape_type = text_encoder_shape;

  shape_type const shape;
  tensor<B> word, position, type;  // width x entries: a token's vector is a column
  layer_norm<B> norm;
  std::vector<encoder_block<B>> blocks;
  linear<B> head;

  text_encoder(B& be, text_encoder_shape s)
      : shape(s),
        word(be, "embeddings.word_embeddings.weight", s.width, s.vocabulary),
        position(be, "embeddings.position_embeddings.weight", s.width, s.positions),
        type(be, "embeddings.token_type_embeddings.weight", s.width, s.types),
        norm(be, "embeddings.LayerNorm", s.width, s.epsilon),
        head(be, "head", s.classes, s.width) {
    for (index_t l = 0; l < s.layers; ++l)
      blocks.emplace_back(be, "encoder.layer." + std::to_string(l), s.width, s.heads, s.hidden, s.epsilon);
  }

  /// The head, for a new task.
  void randomise_head(B& be, loraga::random_stream stream) {
    head.randomise(be, stream);
    loraga::fill(be, head.bias.value.view(), 0);
  }

  /// All linear layers but the head.
  std::vector<linear<B>*> linears() {
    std::vector<linear<B>*> all;
    for (auto& b : blocks) all.insert(all.end(), {&b.query, &b.key, &b.value, &b.output, &b.expand, &b.contract});
    return all;
  }
  std::vector<layer_norm<B>*> norms() {
    std::vector<layer_norm<B>*> all{&norm};
    for (auto& b : blocks) all.insert(all.end(), {&b.norm1, &b.norm2});
    return all;
  }
  /// Every tensor of the base model, in a fixed order; the head's two are last.
  std::vector<tensor<B>*> tensors() {
    std::vector<tensor<B>*> all{&word, &position, &type};
    for (auto* n : norms()) all.insert(all.end(), {&n->gain, &n->shift});
    for (auto* l : linears()) all.insert(all.end(), {&l->weight, &l->bias});
    all.insert(all.end(), {&head.weight, &head.bias});
    return all;
  }

  /// Mean over the tokens of each sequence's last hidden states, width x count.
  view pool(B& be, batch_type const& batch) {
    index_t const tokens = batch.ids.cols;
    loraga::scratch<B> temporary(be);
    auto const sum = temporary.template matrix<float>(shape.width, tokens);
    be.for_each(shape.width, tokens,
                functor::embed_tokens<indices, indices>{word.value.view(), position.value.view(), type.value.view(),
                                                        sum, batch.ids, batch.spans});
    if (streams_.empty()) streams_ = std::vector<activations<B>>(blocks.size() + 1);
    norm.forward(be, sum, stream(be, 0, tokens));
    for (std::size_t l = 0; l < blocks.size(); ++l)
      blocks[l].forward(be, stream(be, l, tokens), stream(be, l + 1, tokens), batch);
    auto const pooled = pooled_.get(be, shape.width, batch.sequences.cols);
    be.for_each(shape.width, pooled.cols,
                functor::mean_pool<indices>{stream(be, blocks.size(), tokens), pooled, batch.sequences});
    return pooled;
  }
  /// The sentence embeddings sentence-transformers computes: pooled and of unit length.
  view embed(B& be, batch_type const& batch) {
    auto const pooled = pool(be, batch);
    be.for_each(1, pooled.cols, functor::normalise_columns{pooled});
    return pooled;
  }

  /// Loss and hits of a batch. With `learn`, gradients of the mean loss are added to everything trainable.
  loss_result run(B& be, batch_type const& batch, bool learn) {
    auto const pooled = pool(be, batch);
    auto const logits = logits_.get(be, shape.classes, pooled.cols);
    head.forward(be, pooled, logits);
    auto const result = cross_entropy(be, logits, batch.labels);
    if (learn) {
      loraga::scratch<B> temporary(be);
      auto const dpooled = temporary.template matrix<float>(shape.width, pooled.cols);
      head.backward(be, pooled, logits, dpooled);
      backward(be, dpooled, batch);
    }
    return result;
  }

  /// From the gradient of what `pool` returned to everything trainable.
  void backward(B& be, view dpooled, batch_type const& batch) {
    index_t const tokens = batch.ids.cols;
    loraga::scratch<B> temporary(be);
    auto const dx = temporary.template matrix<float>(shape.width, tokens);
    be.for_each(shape.width, dpooled.cols, functor::mean_pool_backward<indices>{dpooled, dx, batch.sequences});
    bool const to_the_end = word.trainable || position.trainable || type.trainable || norm.gain.trainable;
    for (std::size_t l = blocks.size(); l-- > 0;)
      blocks[l].backward(be, stream(be, l, tokens), dx, batch, l > 0 || to_the_end);
    if (!to_the_end) return;
    auto const dsum = temporary.template matrix<float>(shape.width, tokens);
    loraga::fill(be, dsum, 0);
    norm.backward(be, dx, dsum);
    if (word.trainable)  // the three train together or not at all
      be.for_each(shape.width, 1,
                  functor::embed_tokens_backward<indices, indices>{dsum, word.gradient.view(), position.gradient.view(),
                                                                   type.gradient.view(), batch.ids, batch.spans});
  }

 private:
  using indices = matrix_view<index_t const, space>;
  std::vector<activations<B>> streams_;  // the input of each block, and the last one's output
  activations<B> pooled_, logits_;

  view stream(B& be, std::size_t l, index_t tokens) { return streams_[l].get(be, shape.width, tokens); }
};

}  // namespace model
