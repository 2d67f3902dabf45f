#pragma once
#include "layers.hpp"

namespace model {

/// Sequences of equal length side by side: column n*tokens + t is token t of sequence n.
struct sequence_shape {
  index_t count, tokens;
};

/// One pre-norm transformer block on a residual stream x (width x tokens*count), in place.
/// With `class_token_only` queries, output and feed-forward are computed for token 0 of each sequence alone, which is
/// all a classifier reads of its last block: its columns are a strided view, and nothing else changes.
template <class B>
class block {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;
  using slab = loraga::slab_view<float, space>;

  layer_norm<B> norm1, norm2;
  linear<B> query, key, value, output, expand, contract;

  block(B& be, std::string const& name, index_t width, index_t heads, index_t hidden, bool class_token_only)
      : norm1(be, name + ".norm1", width),
        norm2(be, name + ".norm2", width),
        query(be, name + ".query", width, width),
        key(be, name + ".key", width, width),
        value(be, name + ".value", width, width),
        output(be, name + ".output", width, width),
        expand(be, name + ".expand", hidden, width),
        contract(be, name + ".contract", width, hidden),
        heads_(heads),
        class_token_only_(class_token_only) {}

  void forward(B& be, view x, sequence_shape s) {
    index_t const width = x.rows, hidden = expand.out(), columns = queries(s) * s.count;
    auto const n1 = n1_.get(be, width, x.cols);
    auto const k = k_.get(be, width, x.cols), v = v_.get(be, width, x.cols);
    auto const q = q_.get(be, width, columns), attended = attended_.get(be, width, columns);
    norm1.forward(be, x, n1);
    query.forward(be, read(n1, s), q);
    key.forward(be, n1, k);
    value.forward(be, n1, v);
    double const scale = 1 / std::sqrt(static_cast<double>(width / heads_));
    for (index_t h = 0; h < heads_; ++h) {
      auto const p = scores(be, h, s);
      be.gemm_batched(scale, head(k, h, s.tokens).transposed(), head(q, h, queries(s)), 0.0, p);
      softmax(be, p.side_by_side());
      be.gemm_batched(1.0, head(v, h, s.tokens), p, 0.0, head(attended, h, queries(s)));
    }
    auto const stream = read(x, s);
    output.forward(be, attended, stream, true);
    auto const n2 = n2_.get(be, width, columns);
    auto const f = f_.get(be, hidden, columns), g = g_.get(be, hidden, columns);
    norm2.forward(be, stream, n2);
    expand.forward(be, n2, f);
    be.for_each(hidden, columns, functor::gelu{f, g});
    contract.forward(be, g, stream, true);
  }

  /// dx: in, the gradient of the stream after this block; out, before it.
  void backward(B& be, view dx, sequence_shape s) {
    index_t const width = dx.rows, hidden = expand.out(), columns = queries(s) * s.count;
    auto const n1 = n1_.get(be, width, dx.cols), k = k_.get(be, width, dx.cols), v = v_.get(be, width, dx.cols);
    auto const q = q_.get(be, width, columns), attended = attended_.get(be, width, columns);
    auto const n2 = n2_.get(be, width, columns);
    auto const f = f_.get(be, hidden, columns), g = g_.get(be, hidden, columns);
    auto const stream = read(dx, s);
    loraga::scratch<B> temporary(be);
    auto const wide = [&](index_t rows, index_t cols) { return temporary.template matrix<float>(rows, cols); };
    auto const dg = wide(hidden, columns), dn2 = wide(width, columns);
    contract.backward(be, g, stream, dg);
    be.for_each(hidden, columns, functor::gelu_backward{f, dg});
    expand.backward(be, n2, dg, dn2);
    norm2.backward(be, dn2, stream);

    auto const dattended = wide(width, columns), dq = wide(width, columns);
    auto const dk = wide(width, dx.cols), dv = wide(width, dx.cols), dn1 = wide(width, dx.cols),
               part = wide(width, dx.cols);
    output.backward(be, attended, stream, dattended);
    double const scale = 1 / std::sqrt(static_cast<double>(width / heads_));
    auto const dp = temporary.template slab<float>(s.count, s.tokens, queries(s));
    for (index_t h = 0; h < heads_; ++h) {
      auto const p = scores(be, h, s);
      auto const dout = head(dattended, h, queries(s));
      be.gemm_batched(1.0, head(v, h, s.tokens).transposed(), dout, 0.0, dp);
      be.gemm_batched(1.0, dout, p.transposed(), 0.0, head(dv, h, s.tokens));
      auto const flat = p.side_by_side();
      be.for_each(1, flat.cols, functor::softmax_backward{flat, dp.side_by_side()});
      be.gemm_batched(scale, head(k, h, s.tokens), dp, 0.0, head(dq, h, queries(s)));
      be.gemm_batched(scale, head(q, h, queries(s)), dp.transposed(), 0.0, head(dk, h, s.tokens));
    }
    key.backward(be, n1, dk, dn1);
    value.backward(be, n1, dv, part);
    loraga::axpby(be, 1.0, part, 1.0, dn1);
    auto const query_part = part.columns(0, columns);
    query.backward(be, read(n1, s), dq, query_part);
    loraga::axpby(be, 1.0, query_part, 1.0, read(dn1, s));
    norm1.backward(be, dn1, dx);
  }

 private:
  index_t heads_;
  bool class_token_only_;
  activations<B> n1_, q_, k_, v_, scores_, attended_, n2_, f_, g_;

  index_t queries(sequence_shape s) const { return class_token_only_ ? 1 : s.tokens; }
  /// The columns of x that this block's queries come from.
  view read(view x, sequence_shape s) const {
    if (!class_token_only_) return x;
    return {x.data, x.rows, s.count, 1, x.col_stride * s.tokens};
  }
  static void softmax(B& be, view p) {
    be.for_each(1, p.cols, functor::subtract_largest{p});
    be.for_each(p.rows * p.cols, 1, functor::exponentials{p.data});
    be.for_each(1, p.cols, functor::divide_by_sum{p});
  }
  /// Rows of one head, one matrix per sequence.
  slab head(view x, index_t h, index_t tokens) const {
    index_t const size = x.rows / heads_;
    return {x.data + h * size, x.cols / tokens, size, tokens, 1, x.col_stride, x.col_stride * tokens};
  }
  /// Attention weights of one head: keys x queries, one matrix per sequence.
  slab scores(B& be, index_t h, sequence_shape s) {
    index_t const each = s.tokens * queries(s);
    auto const all = scores_.get(be, each * s.count, heads_);
    return {all.data + h * each * s.count, s.count, s.tokens, queries(s), 1, s.tokens, each};
  }
};

}  // namespace model
