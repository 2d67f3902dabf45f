#pragma once
#include "text_functors.hpp"

// The elementwise parts of a llama-type decoder over ragged batches of sequences side by side.

namespace model::functor {

/// y = gain*x/rms(x), column by column; `inverse` keeps 1/rms.
struct rms_norm {
  columns x, gain, inverse, y;
  float epsilon;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float const* const v = &x(0, j);
    float const square = dot(v, v, x.rows) / static_cast<float>(x.rows);
    float const scale = 1.f / sqrtf(square + epsilon);
    inverse(0, j) = scale;
    for (index_t i = 0; i < x.rows; ++i) y(i, j) = v[i] * scale * gain(i, 0);
  }
  LORAGA_HD index_t cost() const { return 2 * x.rows; }
};

/// dx += the gradient through the normalisation.
struct rms_norm_backward {
  columns dy, x, gain, inverse, dx;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float const scale = inverse(0, j);
    float const *const d = &dy(0, j), *const v = &x(0, j), *const g = &gain(0, 0);
    float const mean = sum(x.rows, [=](index_t i) { return d[i] * g[i] * v[i]; }) / static_cast<float>(x.rows);
    float const share = mean * scale * scale * scale;
    for (index_t i = 0; i < x.rows; ++i) dx(i, j) += d[i] * g[i] * scale - v[i] * share;
  }
  LORAGA_HD index_t cost() const { return 3 * x.rows; }
};

/// Turns element i and i + size/2 of every head by the angle place*base^(-2i/size); backwards with direction -1.
template <class Angles>
struct rotate {
  columns x;
  Angles angles;  // size x tokens: cosines over sines
  index_t heads, size;
  float direction;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    float const c = angles(i, t), s = direction * angles(i + size / 2, t);
    for (index_t h = 0; h < heads; ++h) {
      float &a = x(h * size + i, t), &b = x(h * size + i + size / 2, t);
      float const first = a, second = b;
      a = first * c - second * s;
      b = second * c + first * s;
    }
  }
  LORAGA_HD index_t cost() const { return 4 * heads; }
};

/// h = gate*sigmoid(gate)*up
struct swiglu {
  columns gate, up, h;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const g = gate(i, j);
    h(i, j) = g / (1.f + functor::exp(-g)) * up(i, j);
  }
  LORAGA_HD index_t cost() const { return 8; }
};

/// dgate and dup from dh, in place of gate and up.
struct swiglu_backward {
  columns dh, gate, up;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const g = gate(i, j), u = up(i, j), d = dh(i, j), s = 1.f / (1.f + functor::exp(-g));
    gate(i, j) = d * u * s * (1.f + g * (1.f - s));
    up(i, j) = d * g * s;
  }
  LORAGA_HD index_t cost() const { return 8; }
};

/// Attention with fewer key heads than query heads: query t sees keys [spans(0, t), spans(1, t)). As `attention`, but
/// keeps the logarithm of the softmax's sum instead of its weights.
template <class Spans>
struct grouped_attention {
  columns query, key, value, weights, log_sum, out;  // weights: longest x (heads*tokens), scratch
  Spans spans;
  index_t heads, group, size;
  float scale;
  LORAGA_HD void operator()(index_t h, index_t t) const {
    index_t const first = spans(0, t), n = spans(1, t) - first, from = h / group * size;
    float const* const q = &query(h * size, t);
    float* const p = &weights(0, t * heads + h);
    for (index_t j = 0; j < n; ++j) p[j] = scale * dot(q, &key(from, first + j), size);
    float const top = largest(n, [p](index_t j) { return p[j]; });
    for (index_t j = 0; j < n; ++j) p[j] = functor::exp(p[j] - top);
    float const total = sum(n, [p](index_t j) { return p[j]; }), inverse = 1.f / total;
    log_sum(h, t) = top + logf(total);
    for (index_t j = 0; j < n; ++j) p[j] *= inverse;
    weighted_sum(size, n, {p, 1}, {&value(from, first), value.stride}, &out(h * size, t));
  }
  LORAGA_HD index_t cost() const { return 2 * size * weights.rows; }
};

/// Per query: the weights again, dscores in another matrix of their shape, and dquery.
template <class Spans>
struct grouped_attention_backward_queries {
  columns query, key, value, log_sum, dout, weights, dscores, dquery;
  Spans spans;
  index_t heads, group, size;
  float scale;
  LORAGA_HD void operator()(index_t h, index_t t) const {
    index_t const first = spans(0, t), n = spans(1, t) - first, from = h / group * size;
    float const *const q = &query(h * size, t), *const d = &dout(h * size, t);
    float *const p = &weights(0, t * heads + h), *const ds = &dscores(0, t * heads + h);
    float const shift = log_sum(h, t);
    for (index_t j = 0; j < n; ++j) p[j] = scale * dot(q, &key(from, first + j), size) - shift;
    for (index_t j = 0; j < n; ++j) p[j] = functor::exp(p[j]);
    for (index_t j = 0; j < n; ++j) ds[j] = dot(d, &value(from, first + j), size);
    float const mean = dot(p, ds, n);
    for (index_t j = 0; j < n; ++j) ds[j] = scale * p[j] * (ds[j] - mean);
    weighted_sum(size, n, {ds, 1}, {&key(from, first), key.stride}, &dquery(h * size, t));
  }
  LORAGA_HD index_t cost() const { return 4 * size * weights.rows; }
};

/// Per key: dkey and dvalue, over the queries that see it, of all heads in its group. Causal: these are the tokens from
/// the key on to the end of its sequence.
template <class Spans>
struct grouped_attention_backward_keys {
  columns query, weights, dscores, dout, dkey, dvalue;
  Spans spans, sequences;  // sequences(1, j): one past the last token of token j's sequence
  index_t heads, group, size;
  LORAGA_HD void add(columns factors, columns of, index_t h, index_t j, index_t n, float* to) const {
    float const *const f = &factors(j - spans(0, j), j * heads + h), *const x = &of(h * size, j);
    float part[128];
    for (index_t begin = 0; begin < size; begin += 128) {
      index_t const some = size - begin < 128 ? size - begin : 128;
      weighted_sum(some, n, {f, heads * factors.stride}, {x + begin, of.stride}, part);
      for (index_t i = 0; i < some; ++i) to[begin + i] += part[i];
    }
  }
  LORAGA_HD void operator()(index_t g, index_t j) const {
    index_t const n = sequences(1, j) - j;
    float *const dk = &dkey(g * size, j), *const dv = &dvalue(g * size, j);
    for (index_t i = 0; i < size; ++i) dk[i] = dv[i] = 0;
    for (index_t h = g * group; h < (g + 1) * group; ++h) {
      add(dscores, query, h, j, n, dk);
      add(weights, dout, h, j, n, dv);
    }
  }
  LORAGA_HD index_t cost() const { return 2 * size * group * weights.rows; }
};

/// x(:, t) = the column of the token's id.
template <class Ids>
struct look_up {
  columns table, x;
  Ids ids;
  LORAGA_HD void operator()(index_t i, index_t t) const { x(i, t) = table(i, ids(0, t)); }
};

/// Columns of `from` that are chosen, side by side; and their gradients back.
template <class Ids>
struct choose_columns {
  columns from, to;
  Ids chosen;  // 1 x count
  LORAGA_HD void operator()(index_t i, index_t j) const { to(i, j) = from(i, chosen(0, j)); }
};
template <class Ids>
struct return_columns {
  columns from, to;
  Ids chosen;
  LORAGA_HD void operator()(index_t i, index_t j) const { to(i, chosen(0, j)) = from(i, j); }
};

}  // namespace model::functor
