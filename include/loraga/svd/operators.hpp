#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <loraga/linalg/elementwise.hpp>

// What the iterative SVD methods see of a matrix: products with tall blocks. An operator is never formed.

namespace loraga {

/// The power of two that brings a matrix of that squared norm to a norm near 1, as far as float's powers of two reach.
/// 1 where products with it are safe as they are.
inline double safe_scale(double energy) {
  int const exponent = std::ilogb(energy) / 2;
  return std::abs(exponent) <= 40 ? 1.0 : std::ldexp(1.0, std::clamp(-exponent, -126, 126));
}

/// Squared norms between which safe_scale is 1 for any type.
inline constexpr double least_plain_energy = 0x1p-81, most_plain_energy = 0x1p81;

/// scale*A*x by calls multiply(x', alpha), which store alpha*A*x'. Half of the scale goes to x, half to alpha: all of
/// it in one place would leave the type's range.
template <class B, class X, class F>
void scaled_product(B& be, double scale, X const& x, F const& multiply) {
  if (scale == 1.0) return multiply(x, 1.0);
  double const before = std::ldexp(1.0, std::ilogb(scale) / 2);
  scratch<B> temporary(be);
  auto const scaled = temporary.template slab<typename X::value_type>(x.count, x.rows, x.cols);
  detail::in_step(be, x.count, [&](B& w, index_t b) { axpby(w, before, x[b], 0.0, scaled[b]); });
  multiply(scaled, scale / before);
}

/// A batch of equal-shaped dense matrices, each times a power of two that brings its norm near 1.
template <class T, class Space>
struct dense_operator {
  using value_type = compute_t<std::remove_const_t<T>>;
  view_list<T, Space> a;
  double scale = 1;

  index_t count() const { return a.count; }
  index_t rows() const { return a.rows; }
  index_t cols() const { return a.cols; }
  dense_operator transposed() const { return {a.transposed(), scale}; }
  /// n matrices from `first` on.
  dense_operator matrices(index_t first, index_t n) const { return {a.matrices(first, n), scale}; }
  /// y = scale*A*x
  template <class B, class X>
  void apply(B& be, X const& x, slab_view<value_type, Space> y) const {
    scaled_product(be, scale, x, [&](auto const& v, double alpha) { be.gemm_batched(alpha, a, v, 0.0, y); });
  }
  /// y = scale*AT*x
  template <class B, class X>
  void apply_transposed(B& be, X const& x, slab_view<value_type, Space> y) const {
    transposed().apply(be, x, y);
  }
};

/// y += U*diag(s)*VT*x, where there is such a base (s not empty).
template <class B, class T, class Space>
void add_low_rank(B& be, svd_factors<T const, Space> base, matrix_view<T, Space> x, matrix_view<T, Space> y) {
  if (base.s.rows == 0) return;
  scratch<B> temporary(be);
  auto const inner = temporary.template matrix<T>(base.s.rows, x.cols);
  be.gemm(1.0, base.v.transposed(), x, 0.0, inner);
  scale_columns(be, base.s, inner.transposed());
  be.gemm(1.0, base.u, inner, 1.0, y);
}

/// weight*left*rightT plus a base that is known by its triplets, for one layer: a micro-batch's gradient and what came
/// before it. left = dY and right = X, both with tokens as columns.
template <class L, class R, class T, class Space>
struct outer_operator {
  L left;                            ///< dY
  R right;                           ///< X
  double weight;                     ///< of the product
  svd_factors<T const, Space> base;  ///< empty if there is none

  /// y = this*x, for batches of one
  template <class B>
  void apply(B& be, slab_view<T, Space> x, slab_view<T, Space> y) const {
    scratch<B> temporary(be);
    auto const inner = temporary.template matrix<T>(right.cols, x.cols);
    be.gemm(1.0, right.transposed(), x[0], 0.0, inner);
    be.gemm(weight, left, inner, 0.0, y[0]);
    add_low_rank(be, base, x[0], y[0]);
  }
  /// y = thisT*x, for batches of one
  template <class B>
  void apply_transposed(B& be, slab_view<T, Space> x, slab_view<T, Space> y) const {
    outer_operator<R, L, T, Space>{right, left, weight, {base.v, base.s, base.u}}.apply(be, x, y);
  }
};

/// weight*a plus a base that is known by its triplets, for one layer.
template <class V, class T, class Space>
struct sum_operator {
  V a;                               ///< a gradient
  double weight;                     ///< of it
  svd_factors<T const, Space> base;  ///< empty if there is none

  /// y = this*x, for batches of one
  template <class B>
  void apply(B& be, slab_view<T, Space> x, slab_view<T, Space> y) const {
    be.gemm(weight, a, x[0], 0.0, y[0]);
    add_low_rank(be, base, x[0], y[0]);
  }
  /// y = thisT*x, for batches of one
  template <class B>
  void apply_transposed(B& be, slab_view<T, Space> x, slab_view<T, Space> y) const {
    sum_operator{a.transposed(), weight, {base.v, base.s, base.u}}.apply(be, x, y);
  }
};

/// scale*op, for batches of one.
template <class Op>
struct scaled_operator {
  Op op;         ///< the operator
  double scale;  ///< its factor

  /// y = scale*op*x
  template <class B, class T>
  void apply(B& be, slab_view<T, typename B::space> x, slab_view<T, typename B::space> y) const {
    multiply(be, x, y, [&](auto const& v) { op.apply(be, v, y); });
  }
  /// y = scale*opT*x
  template <class B, class T>
  void apply_transposed(B& be, slab_view<T, typename B::space> x, slab_view<T, typename B::space> y) const {
    multiply(be, x, y, [&](auto const& v) { op.apply_transposed(be, v, y); });
  }

 private:
  template <class B, class V, class F>
  void multiply(B& be, V x, V y, F const& product) const {
    scaled_product(be, scale, x, [&](auto const& v, double alpha) {
      product(v);
      if (alpha != 1) axpby(be, alpha, y[0], 0.0, y[0]);
    });
  }
};

}  // namespace loraga
