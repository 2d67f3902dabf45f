#pragma once
#include "decoder_functors.hpp"
#include "frozen_linear.hpp"
#include "layers.hpp"

namespace model {

/// Sizes of a llama-type decoder.
struct decoder_shape {
  index_t vocabulary = 0, width = 0, layers = 0, heads = 0, kv_heads = 0, head_size = 0, hidden = 0;
  float epsilon = 1e-5f;
  double rope_base = 10000;
  bool tied = true;  ///< the head is the embedding
};

/// A ragged batch of token sequences in a backend's memory, one after another as columns.
template <class Space>
struct token_batch {
  using indices = matrix_view<index_t const, Space>;
  indices ids;        // 1 x tokens
  indices spans;      // 2 x tokens: the keys a token sees, [first of its sequence, itself]: first and one past the last
  indices sequences;  // 2 x tokens: first of the token's sequence, and one past its last
  indices chosen;     // 1 x count: tokens whose successor is to be foretold
  indices labels;     // 1 x count: these successors
  index_t longest = 0;
};

/// One pre-norm block: x + attention(norm(x)), and that + feed-forward(norm of it). From forward to backward it keeps
/// what products made, and makes anew what elementwise work can.
template <class B>
class decoder_block {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using indices = matrix_view<index_t const, space>;

  frozen_linear<B> query, key, value, output, gate, up, down;

  decoder_block(B& be, loraga::base_model const& base, std::string const& name, decoder_shape const& s)
      : query(be, base, name + ".self_attn.q_proj", s.heads * s.head_size, s.width),
        key(be, base, name + ".self_attn.k_proj", s.kv_heads * s.head_size, s.width),
        value(be, base, name + ".self_attn.v_proj", s.kv_heads * s.head_size, s.width),
        output(be, base, name + ".self_attn.o_proj", s.width, s.heads * s.head_size),
        gate(be, base, name + ".mlp.gate_proj", s.hidden, s.width),
        up(be, base, name + ".mlp.up_proj", s.hidden, s.width),
        down(be, base, name + ".mlp.down_proj", s.width, s.hidden),
        shape_(s),
        gain1_(vector_of(be, base[name + ".input_layernorm.weight"], s.width)),
        gain2_(vector_of(be, base[name + ".post_attention_layernorm.weight"], s.width)) {}
  std::vector<frozen_linear<B>*> linears() { return {&query, &key, &value, &output, &gate, &up, &down}; }

  /// y = the block's output for x (both width x tokens). Every token is turned by its place's angles.
  void forward(B& be, view x, view y, token_batch<space> const& batch, view angles) {
    auto const m = project(be, x, angles);
    attend(be, m, m.k, m.v, batch.spans, batch.longest);
    finish(be, x, y, m);
  }
  /// The same for the next tokens of one sequence. `keys` and `values` (kv width x most tokens) hold those of `past`
  /// tokens before them, and get theirs.
  void extend(B& be, view x, view y, indices spans, view angles, view keys, view values, index_t past) {
    auto const m = project(be, x, angles);
    be.copy(m.k, keys.columns(past, x.cols));
    be.copy(m.v, values.columns(past, x.cols));
    attend(be, m, keys, values, spans, past + x.cols);
    finish(be, x, y, m);
  }

  /// dy becomes the gradient of x. What forward kept is used up.
  void backward(B& be, view x, view dy, token_batch<space> const& batch, view angles) {
    auto const m = memory(be, x.cols);
    loraga::scratch<B> temporary(be);
    auto const make = [&](index_t rows) { return temporary.template matrix<float>(rows, x.cols); };
    auto const normal = make(x.rows), dnormal = make(x.rows), h = make(shape_.hidden), dh = make(shape_.hidden);
    be.for_each(h.rows, h.cols, functor::swiglu{m.gate, m.up, h});
    down.backward(be, h, dy, dh);
    be.for_each(dh.rows, dh.cols, functor::swiglu_backward{dh, m.gate, m.up});
    normalise(be, m.middle, gain2_, m.inverse2, normal);
    gate.backward(be, normal, m.gate, dnormal);
    up.backward(be, normal, m.up, dnormal, true);
    be.for_each(1, x.cols, functor::rms_norm_backward{dnormal, m.middle, gain2_.view(), m.inverse2, dy});

    auto const dattended = make(m.q.rows), dq = make(m.q.rows), dk = make(m.k.rows), dv = make(m.k.rows);
    output.backward(be, m.attended, dy, dattended);
    attend_backward(be, m, batch, dattended, dq, dk, dv);
    rotate(be, dq, angles, shape_.heads, -1);
    rotate(be, dk, angles, shape_.kv_heads, -1);
    normalise(be, x, gain1_, m.inverse1, normal);
    query.backward(be, normal, dq, dnormal);
    key.backward(be, normal, dk, dnormal, true);
    value.backward(be, normal, dv, dnormal, true);
    be.for_each(1, x.cols, functor::rms_norm_backward{dnormal, x, gain1_.view(), m.inverse1, dy});
  }

 private:
  struct kept {  // from forward to backward
    view q, k, v, log_sum, attended, middle, gate, up, inverse1, inverse2;
  };
  decoder_shape shape_;
  matrix<float, B> gain1_, gain2_;
  activations<B> q_, k_, v_, log_sum_, attended_, middle_, gate_, up_, inverse1_, inverse2_;

  float scale() const { return 1 / std::sqrt(static_cast<float>(shape_.head_size)); }
  index_t group() const { return shape_.heads / shape_.kv_heads; }
  void normalise(B& be, view x, matrix<float, B>& gain, view inverse, view y) {
    be.for_each(1, x.cols, functor::rms_norm{x, gain.view(), inverse, y, shape_.epsilon});
  }
  void rotate(B& be, view x, view angles, index_t heads, float direction) {
    be.for_each(shape_.head_size / 2, x.cols, functor::rotate<view>{x, angles, heads, shape_.head_size, direction});
  }
  kept project(B& be, view x, view angles) {
    auto const m = memory(be, x.cols);
    loraga::scratch<B> temporary(be);
    auto const normal = temporary.template matrix<float>(x.rows, x.cols);
    normalise(be, x, gain1_, m.inverse1, normal);
    query.forward(be, normal, m.q);
    key.forward(be, normal, m.k);
    value.forward(be, normal, m.v);
    rotate(be, m.q, angles, shape_.heads, 1);
    rotate(be, m.k, angles, shape_.kv_heads, 1);
    return m;
  }
  void attend(B& be, kept const& m, view k, view v, indices spans, index_t longest) {
    loraga::scratch<B> temporary(be);
    auto const p = temporary.template matrix<float>(longest, shape_.heads * m.q.cols);
    be.for_each(shape_.heads, m.q.cols,
                functor::grouped_attention<indices>{m.q, k, v, p, m.log_sum, m.attended, spans, shape_.heads, group(),
                                                    shape_.head_size, scale()});
  }
  void finish(B& be, view x, view y, kept const& m) {
    loraga::scratch<B> temporary(be);
    auto const normal = temporary.template matrix<float>(x.rows, x.cols),
               h = temporary.template matrix<float>(shape_.hidden, x.cols);
    be.copy(x, m.middle);
    output.forward(be, m.attended, m.middle, true);
    normalise(be, m.middle, gain2_, m.inverse2, normal);
    gate.forward(be, normal, m.gate);
    up.forward(be, normal, m.up);
    be.for_each(h.rows, h.cols, functor::swiglu{m.gate, m.up, h});
    be.copy(m.middle, y);
    down.forward(be, h, y, true);
  }
  void attend_backward(B& be, kept const& m, token_batch<space> const& batch, view dout, view dq, view dk, view dv) {
    loraga::scratch<B> temporary(be);
    auto const p = temporary.template matrix<float>(batch.longest, shape_.heads * dq.cols),
               ds = temporary.template matrix<float>(batch.longest, shape_.heads * dq.cols);
    be.for_each(
        shape_.heads, dq.cols,
        functor::grouped_attention_backward_queries<indices>{m.q, m.k, m.v, m.log_sum, dout, p, ds, dq, batch.spans,
                                                             shape_.heads, group(), shape_.head_size, scale()});
    be.for_each(shape_.kv_heads, dk.cols,
                functor::grouped_attention_backward_keys<indices>{
                    m.q, p, ds, dout, dk, dv, batch.spans, batch.sequences, shape_.heads, group(), shape_.head_size});
  }
  kept memory(B& be, index_t tokens) {
    index_t const kv = shape_.kv_heads * shape_.head_size, all = shape_.heads * shape_.head_size;
    return {q_.get(be, all, tokens),
            k_.get(be, kv, tokens),
            v_.get(be, kv, tokens),
            log_sum_.get(be, shape_.heads, tokens),
            attended_.get(be, all, tokens),
            middle_.get(be, shape_.width, tokens),
            gate_.get(be, shape_.hidden, tokens),
            up_.get(be, shape_.hidden, tokens),
            inverse1_.get(be, 1, tokens),
            inverse2_.get(be, 1, tokens)};
  }
};

}  // namespace model
