#pragma once
#include "decoder_block.hpp"
#include "loss.hpp"

namespace model {

namespace functor {
/// Cosines over sines of the angles that a token's place turns its heads by.
template <class Spans>
struct rope_angles {
  columns angles;  // size x tokens
  Spans spans;     // a token's place is its last key's, counted from its first
  double base;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    double const place = static_cast<double>(spans(1, t) - spans(0, t) - 1);
    double const angle = place * pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(angles.rows));
    angles(i, t) = static_cast<float>(cos(angle));
    angles(i + angles.rows / 2, t) = static_cast<float>(sin(angle));
  }
};

/// Every column's cross-entropy, whether the label was foretold, and weight*its gradient in place of the logits.
template <class L, class R>
struct token_loss {
  columns logits;
  L label;          // 1 x columns
  R loss, correct;  // columns x 1
  float weight;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float* const x = &logits(0, j);
    index_t const target = label(0, j), n = logits.rows;
    float const top = largest(n, [x](index_t i) { return x[i]; }), wanted = x[target];
    for (index_t i = 0; i < n; ++i) x[i] = functor::exp(x[i] - top);
    float const total = sum(n, [x](index_t i) { return x[i]; });
    loss(j, 0) = static_cast<double>(logf(total) + top - wanted);
    correct(j, 0) = wanted == top;
    float const share = weight / total;
    for (index_t i = 0; i < n; ++i) x[i] *= share;
    x[target] -= weight;
  }
  LORAGA_HD index_t cost() const { return 4 * logits.rows; }
};
}  // namespace functor

/// A llama-type decoder whose base stays packed as its file has it and is never written; only adapters train. Written
/// over the backend, with the backward by hand. Layers carry the names of the Hugging Face model.
template <class B>
class decoder {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using batch_type = token_batch<space>;

  decoder_shape const shape;
  packed_weight<B> embedding, head;
  std::vector<decoder_block<B>> blocks;

  decoder(B& be, loraga::base_model const& base, decoder_shape const& s)
      : shape(s),
        embedding(be, base, "model.embed_tokens.weight"),
        head(be, base, s.tied ? "model.embed_tokens.weight" : "lm_head.weight"),
        gain_(vector_of(be, base["model.norm.weight"], s.width)) {
    for (auto const* w : {&embedding, &head}) require_weight_shape(w->stored(), s.vocabulary, s.width);
    for (index_t l = 0; l < s.layers; ++l) blocks.emplace_back(be, base, "model.layers." + std::to_string(l), s);
    streams_.resize(blocks.size() + 1);
  }
  /// All layers that may have adapters.
  std::vector<frozen_linear<B>*> linears() {
    std::vector<frozen_linear<B>*> all;
    for (auto& b : blocks)
      for (auto* l : b.linears()) all.push_back(l);
    return all;
  }

  /// Loss and hits over the batch's labels. With a `weight` other than 0, weight times the gradient of the loss's sum
  /// is added to everything trainable.
  loss_result run(B& be, batch_type const& batch, double weight) {
    index_t const tokens = batch.ids.cols;
    auto const turns = angles(be, batch.spans);
    auto const last = forward(be, batch, turns);
    loraga::scratch<B> temporary(be);
    auto const dx = temporary.template matrix<float>(shape.width, tokens);
    auto const result = foretell(be, last, batch, weight, dx);
    if (weight == 0) return result;
    for (std::size_t l = blocks.size(); l-- > 0;) blocks[l].backward(be, stream(be, l, tokens), dx, batch, turns);
    return result;
  }

  /// Logits after every token of the batch, vocabulary x tokens, in `to`.
  void logits(B& be, batch_type const& batch, view to) { answer(be, forward(be, batch, angles(be, batch.spans)), to); }

  /// What keys and values of one sequence's tokens are kept in while it grows.
  struct cache {
    std::vector<matrix<float, B>> keys, values;
    index_t tokens = 0, most = 0;
  };
  cache make_cache(B& be, index_t most) const {
    cache c{{}, {}, 0, most};
    for (std::size_t l = 0; l < blocks.size(); ++l) {
      c.keys.emplace_back(be, shape.kv_heads * shape.head_size, most);
      c.values.emplace_back(be, shape.kv_heads * shape.head_size, most);
    }
    return c;
  }
  /// The next tokens of a sequence; logits after the last of them (vocabulary x 1) in `to`.
  void extend(B& be, batch_type const& batch, cache& c, view to) {
    index_t const tokens = batch.ids.cols;
    auto const turns = angles(be, batch.spans);
    auto const last = through_blocks(be, batch, [&](std::size_t l, view x, view y) {
      blocks[l].extend(be, x, y, batch.spans, turns, c.keys[l].view(), c.values[l].view(), c.tokens);
    });
    c.tokens += tokens;
    answer(be, last.columns(tokens - 1, 1), to);
  }

 private:
  using indices = matrix_view<index_t const, space>;
  static constexpr index_t most_logits = 128;  // columns of logits at a time: they are the largest of all activations

  matrix<float, B> gain_;
  std::vector<activations<B>> streams_;  // the input of each block, and the last one's output
  activations<B> angles_;

  view stream(B& be, std::size_t l, index_t tokens) { return streams_[l].get(be, shape.width, tokens); }
  view angles(B& be, indices spans) {
    auto const to = angles_.get(be, shape.head_size, spans.cols);
    be.for_each(shape.head_size / 2, spans.cols, functor::rope_angles<indices>{to, spans, shape.rope_base});
    return to;
  }
  /// block(l, x, y) for every block, from the tokens' embeddings on; the last one's y.
  template <class F>
  view through_blocks(B& be, batch_type const& batch, F const& block) {
    index_t const tokens = batch.ids.cols;
    embedding.look_up(be, batch.ids, stream(be, 0, tokens));
    for (std::size_t l = 0; l < blocks.size(); ++l) block(l, stream(be, l, tokens), stream(be, l + 1, tokens));
    return stream(be, blocks.size(), tokens);
  }
  view forward(B& be, batch_type const& batch, view turns) {
    return through_blocks(be, batch, [&](std::size_t l, view x, view y) { blocks[l].forward(be, x, y, batch, turns); });
  }
  void normalise(B& be, view x, view inverse, view y) {
    be.for_each(1, x.cols, functor::rms_norm{x, gain_.view(), inverse, y, shape.epsilon});
  }
  void answer(B& be, view x, view to) {
    loraga::scratch<B> temporary(be);
    auto const normal = temporary.template matrix<float>(x.rows, x.cols),
               inverse = temporary.template matrix<float>(1, x.cols);
    normalise(be, x, inverse, normal);
    head.forward(be, normal, to, false);
  }
  /// Loss of the chosen tokens; dx = weight*its gradient (0 where no token is chosen).
  loss_result foretell(B& be, view x, batch_type const& batch, double weight, view dx) {
    using column = matrix_view<double, space>;
    loraga::scratch<B> temporary(be);
    index_t const n = batch.chosen.cols;
    auto const make = [&](index_t rows) { return temporary.template matrix<float>(rows, n); };
    auto const some = make(x.rows), normal = make(x.rows), dnormal = make(x.rows), dsome = make(x.rows),
               inverse = make(1);
    auto const each = temporary.template matrix<double>(n, 2), total = temporary.template matrix<double>(2, 1);
    be.for_each(x.rows, n, functor::choose_columns<indices>{x, some, batch.chosen});
    normalise(be, some, inverse, normal);
    auto const logits = temporary.template matrix<float>(shape.vocabulary, std::min(n, most_logits));
    for (index_t first = 0; first < n; first += most_logits) {
      index_t const now = std::min(most_logits, n - first);
      auto const piece = logits.columns(0, now);
      head.forward(be, normal.columns(first, now), piece, false);
      be.for_each(1, now,
                  functor::token_loss<indices, column>{
                      piece, batch.labels.columns(first, now), each.columns(0, 1).row_range(first, now),
                      each.columns(1, 1).row_range(first, now), static_cast<float>(weight)});
      if (weight != 0) head.backward(be, piece, dnormal.columns(first, now), false);
    }
    be.reduce_columns(n, 2, functor::total<column>{each, total});
    if (weight != 0) {
      loraga::fill(be, dsome, 0);
      be.for_each(1, n, functor::rms_norm_backward{dnormal, some, gain_.view(), inverse, dsome});
      loraga::fill(be, dx, 0);
      be.for_each(x.rows, n, functor::return_columns<indices>{dsome, dx, batch.chosen});
    }
    auto const sums = loraga::read_all(be, total);
    return {sums[0], static_cast<index_t>(sums[1]), n};
  }
};

}  // namespace model
