#pragma once
#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>
#include <loraga/svd/operators.hpp>

// How an incremental estimate first looks at a micro-batch: with the directions it knows, and with random ones for what
// is new, which look at heavy tokens first.

namespace loraga::detail {

/// Random directions beside `width` known ones: room for what is new.
inline index_t new_directions(index_t width) { return std::max<index_t>(16, 3 * width / 16); }

/// w = weight*|left column|*|row of inner|, from squared lengths: how much a token adds along the random directions.
template <class D>
struct token_weight {
  D left, inner, w;
  double weight;
  LORAGA_HD void operator()(index_t i, index_t) const { w(i, 0) = weight * sqrt(left(i, 0)) * sqrt(inner(i, 0)); }
};

/// How many numbers are not zero.
template <class X, class D>
struct count_nonzero : sum_of_doubles {
  X x;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return x(i, j) != 0 ? 1 : 0; }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

/// Row i times its token's weight over the mean weight, kept within 1/4 ... 4.
template <class V, class W>
struct emphasise_tokens {
  V inner;
  W weights;
  V total;  // sum of weights, number of tokens that have one
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    double const mean = as_double(total(0, 0)) / as_double(total(1, 0));
    if (!(mean > 0)) return;  // all too small to be told apart
    double const ratio = weights(i, 0) / mean;
    double const factor = ratio < 0.25 ? 0.25 : ratio > 4 ? 4.0 : ratio;
    inner(i, j) = static_cast<T>(inner(i, j) * factor);
  }
};

/// y += factor*U*diag(s)
template <class V, class R>
struct add_scaled_columns {
  R u, s;
  V y;
  double factor;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    y(i, j) += u(i, j) * static_cast<T>(factor * as_double(s(j, 0)));
  }
};

/// What stands between the two products of a first look.
template <class T, class Space>
struct look_state {
  matrix_view<T, Space> inner;         // tokens x columns
  matrix_view<double, Space> weights;  // tokens x 1
  matrix_view<T, Space> total;         // 2x1: their sum and number, which ranks add up
};

/// First half: rightT*start, and how heavy tokens are on the columns from `known` on. A dense gradient has no tokens.
/// math    a heavy token is likely to hold a direction of its own; a random combination in which each token counts by its
///         share of the energy, and not of its root, finds it as a further pass over the data would
template <class B, class L, class R, class T, class Space>
look_state<T, Space> begin_look(B& be, scratch<B>& temporary, outer_operator<L, R, T, Space> const& op,
                                matrix_view<T, Space> start, index_t known) {
  index_t const tokens = op.right.cols, fresh = start.cols - known;
  look_state<T, Space> const look{temporary.template matrix<T>(tokens, start.cols),
                                  temporary.template matrix<double>(tokens, 1), temporary.template matrix<T>(2, 1)};
  be.gemm(1.0, op.right.transposed(), start, 0.0, look.inner);
  loraga::fill(be, look.total, 0);
  if (fresh == 0) return look;
  using D = matrix_view<double, Space>;
  scratch<B> more(be);
  D const left = more.template matrix<double>(tokens, 1), inner = more.template matrix<double>(tokens, 1);
  D const total = more.template matrix<double>(2, 1);
  auto const rows = look.inner.columns(known, fresh).transposed();
  loraga::column_dots(be, op.left, op.left, left);
  loraga::column_dots(be, rows, rows, inner);
  be.for_each(tokens, 1, token_weight<D>{left, inner, look.weights, op.weight});
  be.reduce_columns(tokens, 1, loraga::detail::total<D, D>{{}, look.weights, total.row_range(0, 1)});
  be.reduce_columns(tokens, 1, count_nonzero<D, D>{{}, look.weights, total.row_range(1, 1)});
  loraga::convert(be, total, look.total);
  return look;
}
template <class B, class V, class T, class Space>
look_state<T, Space> begin_look(B& be, scratch<B>& temporary, sum_operator<V, T, Space> const&,
                                matrix_view<T, Space> start, index_t) {
  look_state<T, Space> const look{start, {}, temporary.template matrix<T>(2, 1)};
  loraga::fill(be, look.total, 0);
  return look;
}

/// Second half: y = alpha*this*start, without a base.
template <class B, class L, class R, class T, class Space>
void end_look(B& be, outer_operator<L, R, T, Space> const& op, look_state<T, Space> const& look, index_t known,
              double alpha, matrix_view<T, Space> y) {
  auto const fresh = look.inner.columns(known, look.inner.cols - known);
  using V = matrix_view<T, Space>;
  using D = matrix_view<double, Space>;
  if (fresh.cols > 0) be.for_each(fresh.rows, fresh.cols, emphasise_tokens<V, D>{fresh, look.weights, look.total});
  be.gemm(alpha * op.weight, op.left, look.inner, 0.0, y);
}
template <class B, class V, class T, class Space>
void end_look(B& be, sum_operator<V, T, Space> const& op, look_state<T, Space> const& look, index_t, double alpha,
              matrix_view<T, Space> y) {
  be.gemm(alpha * op.weight, op.a, look.inner, 0.0, y);
}

/// The same gradient from the other side, with no base.
template <class L, class R, class T, class Space>
outer_operator<R, L, T, Space> other_side(outer_operator<L, R, T, Space> const& op) {
  return {op.right, op.left, op.weight, {}};
}
template <class V, class T, class Space>
sum_operator<V, T, Space> other_side(sum_operator<V, T, Space> const& op) {
  return {op.a.transposed(), op.weight, {}};
}

/// How many tokens a gradient is the sum of, at most; a dense one's rank.
template <class L, class R, class T, class Space>
index_t tokens_of(outer_operator<L, R, T, Space> const& op) {
  return op.right.cols;
}
template <class V, class T, class Space>
index_t tokens_of(sum_operator<V, T, Space> const& op) {
  return std::min(op.a.rows, op.a.cols);
}

}  // namespace loraga::detail
