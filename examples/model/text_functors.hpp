#pragma once
#include "functors.hpp"

// The elementwise parts of a text encoder over ragged batches: sequences of different lengths side by side as columns,
// without padding. Every sum is formed by one call in a fixed order, so results depend on nothing but the data.

namespace model::functor {

/// The normal distribution up to x, given exp(-x^2/2), without a library call or a branch, so that compilers vectorise
/// loops over it. Absolute error below 1e-7.
/// source  (1 + erf(x/sqrt(2)))/2 by Abramowitz, Stegun, 7.1.26
LORAGA_HD inline float normal_below(float x, float bell) {
  float const t = 1.f / (1.f + 0.231641888f * fabsf(x));
  float const p =
      t * (0.127414796f + t * (-0.142248368f + t * (0.710706871f + t * (-0.726576014f + t * 0.530702715f))));
  return 0.5f + copysignf(0.5f - p * bell, x);
}

/// y = x*(1 + erf(x/sqrt(2)))/2
struct exact_gelu {
  columns x, y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const v = x(i, j);
    y(i, j) = v * normal_below(v, functor::exp(-0.5f * v * v));
  }
};

/// d *= dGELU/dx
struct exact_gelu_backward {
  columns x, d;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const v = x(i, j), bell = functor::exp(-0.5f * v * v);
    d(i, j) *= normal_below(v, bell) + 0.398942280f * v * bell;
  }
};

LORAGA_HD inline float dot(float const* a, float const* b, index_t n) {
  return sum(n, [a, b](index_t i) { return a[i] * b[i]; });
}

/// Floats, or where columns of floats begin, at equal distances.
struct spaced {
  float const* data;
  index_t step;
  LORAGA_HD float const* at(index_t j) const { return data + j * step; }
};

/// out(0 ... 2*Half - 1) = sum over j < n of weight(j)*column(j)(the same rows). A function of its own, with sums in
/// two arrays: inlined into larger ones, or with one array, compilers keep the sums in memory, or add floats one by
/// one.
template <int Half>
[[gnu::noinline]] LORAGA_HD void weighted_rows(index_t n, spaced weight, spaced column, float* out) {
  float low[Half], high[Half];
  for (int l = 0; l < Half; ++l) low[l] = high[l] = 0;
  for (index_t j = 0; j < n; ++j) {
    float const w = *weight.at(j), *const v = column.at(j);
    for (int l = 0; l < Half; ++l) low[l] += w * v[l];
    for (int l = 0; l < Half; ++l) high[l] += w * v[l + Half];
  }
  for (int l = 0; l < Half; ++l) out[l] = low[l];
  for (int l = 0; l < Half; ++l) out[l + Half] = high[l];
}

/// out(:) = sum over j < n of weight(j)*column(j)(:), for columns of `size` contiguous floats, in the order of j.
LORAGA_HD inline void weighted_sum(index_t size, index_t n, spaced weight, spaced column, float* out) {
  index_t i = 0;
  for (; i + 32 <= size; i += 32) weighted_rows<16>(n, weight, {column.data + i, column.step}, out + i);
  for (; i + 16 <= size; i += 16) weighted_rows<8>(n, weight, {column.data + i, column.step}, out + i);
  for (; i < size; ++i) {
    float total = 0;
    for (index_t j = 0; j < n; ++j) total += *weight.at(j) * column.at(j)[i];
    out[i] = total;
  }
}

/// Attention within each sequence: for head h and query t, p = softmax over the sequence's keys of scale*(q . k), and
/// out = p-weighted sum of values. Column t*heads + h of `weights` keeps p for backward.
template <class Spans>
struct attention {
  columns query, key, value, weights, out;
  Spans spans;  // 2 x tokens: first column of the token's sequence, and one past its last
  index_t heads, size;
  float scale;
  LORAGA_HD void operator()(index_t h, index_t t) const {
    index_t const first = spans(0, t), n = spans(1, t) - first;
    float const* const q = &query(h * size, t);
    float* const p = &weights(0, t * heads + h);
    for (index_t j = 0; j < n; ++j) p[j] = scale * dot(q, &key(h * size, first + j), size);
    float const top = largest(n, [p](index_t j) { return p[j]; });
    for (index_t j = 0; j < n; ++j) p[j] = functor::exp(p[j] - top);
    float const inverse = 1.f / sum(n, [p](index_t j) { return p[j]; });
    for (index_t j = 0; j < n; ++j) p[j] *= inverse;
    weighted_sum(size, n, {p, 1}, {&value(h * size, first), value.stride}, &out(h * size, t));
  }
  LORAGA_HD index_t cost() const { return 2 * size * weights.rows; }
};

/// Per query: dscores (laid out as the weights) and dquery.
template <class Spans>
struct attention_backward_queries {
  columns key, value, weights, dout, dscores, dquery;
  Spans spans;
  index_t heads, size;
  float scale;
  LORAGA_HD void operator()(index_t h, index_t t) const {
    index_t const first = spans(0, t), n = spans(1, t) - first;
    float const *const d = &dout(h * size, t), *const p = &weights(0, t * heads + h);
    float* const ds = &dscores(0, t * heads + h);
    for (index_t j = 0; j < n; ++j) ds[j] = dot(d, &value(h * size, first + j), size);
    float const mean = dot(p, ds, n);
    for (index_t j = 0; j < n; ++j) ds[j] = scale * p[j] * (ds[j] - mean);
    weighted_sum(size, n, {ds, 1}, {&key(h * size, first), key.stride}, &dquery(h * size, t));
  }
  LORAGA_HD index_t cost() const { return 2 * size * weights.rows; }
};

/// Per key: dkey and dvalue, over the queries of its sequence.
template <class Spans>
struct attention_backward_keys {
  columns query, weights, dscores, dout, dkey, dvalue;
  Spans spans;
  index_t heads, size;
  LORAGA_HD void add_over_queries(index_t n, columns factors, columns of, index_t h, index_t first, index_t j,
                                  float* to) const {
    weighted_sum(size, n, {&factors(j - first, first * heads + h), heads * factors.stride},
                 {&of(h * size, first), of.stride}, to);
  }
  LORAGA_HD void operator()(index_t h, index_t j) const {
    index_t const first = spans(0, j), n = spans(1, j) - first;
    add_over_queries(n, dscores, query, h, first, j, &dkey(h * size, j));
    add_over_queries(n, weights, dout, h, first, j, &dvalue(h * size, j));
  }
  LORAGA_HD index_t cost() const { return 2 * size * weights.rows; }
};

/// x(:, t) = word(:, id of t) + position(:, place of t in its sequence) + type(:, 0)
template <class Ids, class Spans>
struct embed_tokens {
  columns word, position, type, x;
  Ids ids;  // 1 x tokens
  Spans spans;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    x(i, t) = word(i, ids(0, t)) + position(i, t - spans(0, t)) + type(i, 0);
  }
};

/// The embeddings' gradients, row by row: one call per row adds over all tokens, so that equal tokens do not collide.
template <class Ids, class Spans>
struct embed_tokens_backward {
  columns dx, dword, dposition, dtype;
  Ids ids;
  Spans spans;
  LORAGA_HD void operator()(index_t i, index_t) const {
    for (index_t t = 0; t < dx.cols; ++t) {
      dword(i, ids(0, t)) += dx(i, t);
      dposition(i, t - spans(0, t)) += dx(i, t);
      dtype(i, 0) += dx(i, t);
    }
  }
};

/// Mean over the tokens of each sequence.
template <class Sequences>
struct mean_pool {
  columns x, pooled;
  Sequences sequences;  // 2 x count: first column, one past the last
  LORAGA_HD void operator()(index_t i, index_t n) const {
    index_t const first = sequences(0, n), last = sequences(1, n);
    float total = 0;
    for (index_t t = first; t < last; ++t) total += x(i, t);
    pooled(i, n) = total / static_cast<float>(last - first);
  }
};

template <class Sequences>
struct mean_pool_backward {
  columns dpooled, dx;
  Sequences sequences;
  LORAGA_HD void operator()(index_t i, index_t n) const {
    index_t const first = sequences(0, n), last = sequences(1, n);
    float const share = dpooled(i, n) / static_cast<float>(last - first);
    for (index_t t = first; t < last; ++t) dx(i, t) = share;
  }
};

/// Columns of unit length, as sentence-transformers hands them out.
struct normalise_columns {
  columns x;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float* const v = &x(0, j);
    float const length = sqrtf(dot(v, v, x.rows)), inverse = 1.f / (length > 1e-12f ? length : 1e-12f);
    for (index_t i = 0; i < x.rows; ++i) v[i] *= inverse;
  }
};

}  // namespace model::functor
