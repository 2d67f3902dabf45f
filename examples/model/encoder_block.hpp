#pragma once
#include "layers.hpp"
#include "text_functors.hpp"

namespace model {

/// A ragged batch in a backend's memory: sequences one after another as columns, no padding.
template <class Space>
struct text_batch {
  matrix_view<index_t const, Space> ids;        // 1 x tokens
  matrix_view<index_t const, Space> spans;      // 2 x tokens: first column of the token's sequence, one past its last
  matrix_view<index_t const, Space> sequences;  // 2 x count: the same, per sequence
  matrix_view<index_t const, Space> labels;     // 1 x count
  index_t longest = 0;                          // tokens of the longest sequence
};

/// One post-norm transformer layer as BERT has it: attention, add, normalise, feed-forward, add, normalise.
template <class B>
class encoder_block {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;

  linear<B> query, key, value, output, expand, contract;
  layer_norm<B> norm1, norm2;

  encoder_block(B& be, std::string const& name, index_t width, index_t heads, index_t hidden, float epsilon)
      : query(be, name + ".attention.self.query", width, width),
        key(be, name + ".attention.self.key", width, width),
        value(be, name + ".attention.self.value", width, width),
        output(be, name + ".attention.output.dense", width, width),
        expand(be, name + ".intermediate.dense", hidden, width),
        contract(be, name + ".output.dense", width, hidden),
        norm1(be, name + ".attention.output.LayerNorm", width, epsilon),
        norm2(be, name + ".output.LayerNorm", width, epsilon),
        heads_(heads) {}

  /// y = the layer's output for x (both width x tokens).
  void forward(B& be, view x, view y, text_batch<space> const& batch) {
    auto const m = memory(be, x, batch);
    query.forward(be, x, m.q);
    key.forward(be, x, m.k);
    value.forward(be, x, m.v);
    be.for_each(heads_, x.cols,
                functor::attention<spans>{m.q, m.k, m.v, m.p, m.attended, batch.spans, heads_, size(x), scale(x)});
    loraga::scratch<B> temporary(be);
    auto const stream = temporary.template matrix<float>(x.rows, x.cols);
    be.copy(x, stream);
    output.forward(be, m.attended, stream, true);
    norm1.forward(be, stream, m.middle);
    expand.forward(be, m.middle, m.f);
    be.for_each(m.f.rows, m.f.cols, functor::exact_gelu{m.f, m.g});
    be.copy(m.middle, stream);
    contract.forward(be, m.g, stream, true);
    norm2.forward(be, stream, y);
  }

  /// dy becomes the gradient of x, or, without `wants_dx`, is used up.
  void backward(B& be, view x, view dy, text_batch<space> const& batch, bool wants_dx) {
    auto const m = memory(be, x, batch);
    loraga::scratch<B> temporary(be);
    auto const like = [&](view v) { return temporary.template matrix<float>(v.rows, v.cols); };
    auto const stream = like(x), dg = like(m.g);
    norm2.backward(be, dy, stream, false);
    contract.backward(be, m.g, stream, dg);
    be.for_each(dg.rows, dg.cols, functor::exact_gelu_backward{m.f, dg});
    expand.backward(be, m.middle, dg, stream, true);
    norm1.backward(be, stream, dy, false);

    auto const dattended = like(x), dq = like(x), dk = like(x), dv = like(x), dp = like(m.p);
    output.backward(be, m.attended, dy, dattended);
    be.for_each(heads_, x.cols,
                functor::attention_backward_queries<spans>{m.k, m.v, m.p, dattended, dp, dq, batch.spans, heads_,
                                                           size(x), scale(x)});
    be.for_each(heads_, x.cols,
                functor::attention_backward_keys<spans>{m.q, m.p, dp, dattended, dk, dv, batch.spans, heads_, size(x)});
    for (auto const& [layer, gradient] : {std::pair{&query, dq}, std::pair{&key, dk}, std::pair{&value, dv}})
      layer->backward(be, x, gradient, wants_dx ? dy : view{}, true);
  }

 private:
  using spans = matrix_view<index_t const, space>;
  struct kept {  // from forward to backward
    view q, k, v, p, attended, middle, f, g;
  };
  index_t heads_;
  activations<B> q_, k_, v_, p_, attended_, middle_, f_, g_;

  index_t size(view x) const { return x.rows / heads_; }
  float scale(view x) const { return 1 / std::sqrt(static_cast<float>(size(x))); }
  kept memory(B& be, view x, text_batch<space> const& batch) {
    index_t const width = x.rows, tokens = x.cols, hidden = expand.out();
    return {q_.get(be, width, tokens),        k_.get(be, width, tokens),
            v_.get(be, width, tokens),        p_.get(be, batch.longest, heads_ * tokens),
            attended_.get(be, width, tokens), middle_.get(be, width, tokens),
            f_.get(be, hidden, tokens),       g_.get(be, hidden, tokens)};
  }
};

}  // namespace model
