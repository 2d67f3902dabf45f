#pragma once
#include <loraga/adapter/inner_type.hpp>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/reductions.hpp>

namespace loraga {

/// Leaves the sum of all columns in the first one, by halves; the others are destroyed.
/// math    x_0 = sum_j x_j, each addition rounded once, in an order that the number of columns fixes
template <Backend B, MutableViewIn<typename B::space> X>
void fold_columns(B& be, X x) {
  for (index_t n = x.cols; n > 1;) {
    index_t const half = n / 2;
    axpby(be, 1.0, x.columns(n - half, half), 1.0, x.columns(0, half));
    n -= half;
  }
}

namespace detail {

/// f = scale*b in double
template <class Bv, class F>
struct scaled_factor {
  Bv b;
  F f;
  double scale;
  LORAGA_HD void operator()(index_t j, index_t i) const { f(j, i) = scale * as_double(b(j, i)); }
};

/// terms = f*(2*cross + terms), entry by entry
template <class F, class C, class M>
struct norm_terms {
  F f;
  C cross;
  M terms;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    terms(j, i) = f(j, i) * (2 * as_double(cross(j, i)) + terms(j, i));
  }
};

/// n(j) = sqrt(||W_j||^2 + the sum of row j of change), or, where too much of that has cancelled, ||row j of W +
/// f*atT|| entry by entry
template <class W, class M, class N>
struct row_norm {
  W w;
  M at, f;  // columns: rows of A, then of A0; s*B, then -s*B0; double
  M squares, change;
  double least;  // share of ||W_j||^2 that must be left
  N norm;
  LORAGA_HD void operator()(index_t j, index_t) const {
    double const whole = squares(j, 0);
    double sum = whole + change(j, 0);
    if (!(sum > least * whole)) {
      sum = 0;
      for (index_t k = 0; k < w.cols; ++k) {
        double entry = as_double(w(j, k));
        for (index_t i = 0; i < at.cols; ++i) entry += f(j, i) * at(k, i);
        sum += entry * entry;
      }
    }
    norm(j, 0) = static_cast<typename N::value_type>(sqrt(sum));
  }
};

/// terms = s*left*(2*cross + s*left*gram), entry by entry: their row sums are what s*left*right adds to ||W_j||^2
template <class F, class C, class M>
struct change_terms {
  F left;
  C cross, gram;
  M terms;
  double scale;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    double sum = 2 * as_double(cross(j, i));
    for (index_t k = 0; k < gram.rows; ++k) sum += scale * as_double(left(j, k)) * as_double(gram(k, i));
    terms(j, i) = scale * as_double(left(j, i)) * sum;
  }
};

/// n(j) = sqrt(||W_j||^2 + the sum of row j of terms), or, where too much of that has cancelled, ||row j of W +
/// s*left*right|| entry by entry; and g/n(j), where there is a g: 1 where a row is zero and has no direction to rescale
template <class W, class F, class P, class M, class G, class N>
struct norm_and_ratio {
  W w;
  F left;
  P right;
  M squares, terms;
  double scale;
  double least;  // share of ||W_j||^2 that must be left
  G magnitude;
  N norm, ratio;
  LORAGA_HD void operator()(index_t j, index_t) const {
    using T = typename N::value_type;
    double const whole = squares(j, 0);
    double sum = whole;
    for (index_t i = 0; i < terms.cols; ++i) sum += terms(j, i);
    if (!(sum > least * whole)) {
      sum = 0;
      for (index_t k = 0; k < w.cols; ++k) {
        double entry = as_double(w(j, k));
        for (index_t i = 0; i < right.rows; ++i) entry += scale * as_double(left(j, i)) * as_double(right(i, k));
        sum += entry * entry;
      }
    }
    T const n = static_cast<T>(sqrt(sum));
    norm(j, 0) = n;
    if (magnitude.rows > 0) ratio(j, 0) = n > T(0) ? static_cast<T>(magnitude(j, 0)) / n : T(1);
  }
};

/// cross = W*[A; A0]T in cross's type, full precision. A CPU converts a W of another type piece by piece, as many rows
/// as its caches hold; a device's products know what to do with them.
template <class B, class W, class A, class C>
void cross_products(B& be, W w, A a, A start_a, C cross) {
  using T = typename C::value_type;
  [[maybe_unused]] auto const precise = be.full_precision();
  auto const multiply = [&](auto rows, auto to) {
    be.gemm(1.0, rows, a.transposed(), 0.0, to.columns(0, a.rows));
    if (start_a.rows > 0) be.gemm(1.0, rows, start_a.transposed(), 0.0, to.columns(a.rows, start_a.rows));
  };
  if constexpr (on_device<B> || std::is_same_v<typename W::value_type, T>) {
    multiply(w, cross);
  } else {
    constexpr index_t most = 256;
    for (index_t first = 0; first < w.rows; first += most) {
      index_t const n = std::min(most, w.rows - first);
      scratch<B> piece(be);
      auto const rows = piece.template matrix<T>(w.cols, n);
      loraga::convert(be, w.row_range(first, n).transposed(), rows);
      multiply(rows.transposed(), cross.row_range(first, n));
    }
  }
}

}  // namespace detail

/// The row norms of W + s*(B*A - B0*A0) without that matrix. Products with W are in double if `norm` is; norms in float
/// have products in float, and the rest in double.
/// math    norm_j^2 = ||W_j||^2 + 2s*(W_j*AT)*B_j + s^2*B_j*(A*AT)*B_jT, with [A; A0] and [B, -B0] where there is a start;
///         rows in which more than 99.99 % cancels (98 % in float) are formed instead
/// shapes  squares out x 1, as row_squares gives it; norm out x 1; start_a, start_b may be empty
/// cost    2*out*in*r operations; in double also 2*(in + out)*r^2
/// memory  scratch for W*AT, in double for A, two copies of B and, if W is of another type than norm, 256 rows of W
template <Backend B, class W, class A, class F, MutableViewIn<typename B::space> N>
void row_norms(B& be, W w, matrix_view<double const, typename B::space> squares, double scale, A a, F b, A start_a,
               F start_b, N norm) {
  index_t const r = a.rows + start_a.rows;
  scratch<B> temporary(be);
  auto const cross = temporary.template matrix<compute_t<typename N::value_type>>(w.rows, r);
  auto const at = temporary.template matrix<double>(w.cols, r), gram = temporary.template matrix<double>(r, r),
             f = temporary.template matrix<double>(w.rows, r), terms = temporary.template matrix<double>(w.rows, r);
  auto const add = [&](A rows, F columns, index_t from, double sign) {
    if (rows.rows == 0) return;
    convert(be, rows.transposed(), at.columns(from, rows.rows));
    be.for_each(w.rows, rows.rows,
                detail::scaled_factor<F, decltype(f)>{columns, f.columns(from, rows.rows), sign * scale});
  };
  add(a, b, 0, 1);
  add(start_a, start_b, a.rows, -1);
  detail::cross_products(be, w, a, start_a, cross);
  be.gemm(1.0, at.transposed(), at, 0.0, gram);
  be.gemm(1.0, f, gram, 0.0, terms);
  be.for_each(w.rows, r, detail::norm_terms<decltype(f), decltype(cross), decltype(terms)>{f, cross, terms});
  fold_columns(be, terms);
  auto const change = terms.columns(0, 1);
  constexpr bool precise = sizeof(typename N::value_type) == sizeof(double);
  using M = matrix_view<double const, typename B::space>;
  be.for_each(w.rows, 1, detail::row_norm<W, M, N>{w, at, f, squares, change, precise ? 1e-4 : 0.02, norm});
}

/// The row norms of W + s*left*right, and g/norm: what a device does in two products and two kernels. Products are in
/// norm's type, right*rightT too: it errs by a share of ||s*left*right||^2 as W*rightT does. The rest is in double.
/// With a frozen start, left and right are frozen_pair's.
/// math    norm_j^2 = ||W_j||^2 + 2s*(W_j*rightT)*left_j + s^2*left_j*(right*rightT)*left_jT; ratio_j = g_j/norm_j, 1
///         where norm_j = 0; rows in which more than 99.99 % cancels (98 % in float) are formed instead
/// shapes  squares, norm, magnitude, ratio out x 1; left out x k, right k x in; no ratio where there is no magnitude
/// cost    2*in*k*(out + k) operations, and out*k^2
/// memory  scratch for W*rightT and the same in double
template <Backend B, class W, class F, class P, class N,
          class G = matrix_view<typename N::value_type const, typename B::space>>
void rescaling_of(B& be, W w, matrix_view<double const, typename B::space> squares, double scale, F left, P right,
                  N norm, G magnitude = {}, N ratio = {}) {
  using C = compute_t<typename N::value_type>;
  index_t const k = right.rows;
  scratch<B> temporary(be);
  auto const cross = temporary.template matrix<C>(w.rows, k), gram = temporary.template matrix<C>(k, k);
  auto const terms = temporary.template matrix<double>(w.rows, k);
  [[maybe_unused]] auto const precise = be.full_precision();
  detail::cross_products(be, w, right, P{}, cross);
  be.gemm(1.0, right, right.transposed(), 0.0, gram);
  be.for_each(w.rows, k, detail::change_terms<F, decltype(cross), decltype(terms)>{left, cross, gram, terms, scale});
  double const least = sizeof(C) == sizeof(double) ? 1e-4 : 0.02;
  using M = matrix_view<double const, typename B::space>;
  be.for_each(
      w.rows, 1,
      detail::norm_and_ratio<W, F, P, M, G, N>{w, left, right, squares, terms, scale, least, magnitude, norm, ratio});
}

/// squares_j = ||W_j||^2, in double.
template <Backend B, class W>
void row_squares(B& be, W w, matrix_view<double, typename B::space> squares) {
  column_dots(be, w.transposed(), w.transposed(), squares);
}

}  // namespace loraga
