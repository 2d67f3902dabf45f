#pragma once
#include <cmath>
#include <loraga/concepts.hpp>

// Sums and extremes over any backend's reduce_columns. Results stay in the backend's memory, as views of one or a few
// numbers, so nothing has to wait for them. read_scalar fetches one.

namespace loraga {

namespace detail {

struct sum_of_doubles {
  static constexpr bool in_steps = true;
  using value_type = double;
  LORAGA_HD static double identity() { return 0; }
  LORAGA_HD static double combine(double a, double b) { return a + b; }
};

template <class X, class Y, class D>
struct column_dots : sum_of_doubles {
  X x;
  Y y;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return as_double(x(i, j)) * as_double(y(i, j)); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

template <class X, class Y, class D>
struct column_abs_dots : sum_of_doubles {
  X x;
  Y y;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return std::fabs(as_double(x(i, j)) * as_double(y(i, j))); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

template <class X, class D>
struct total : sum_of_doubles {
  X x;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const { return x(i, j); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

/// Largest |x|; NaN wins over everything, so that it cannot hide.
template <class X, class D>
struct max_abs {
  static constexpr bool in_steps = true;
  using value_type = double;
  X x;
  D d;
  LORAGA_HD static double identity() { return 0; }
  LORAGA_HD double map(index_t i, index_t j) const { return std::fabs(as_double(x(i, j))); }
  LORAGA_HD static double combine(double a, double b) { return a >= b || is_nan(a) ? a : b; }
  LORAGA_HD void finish(index_t j, double value) const { d(j, 0) = value; }
};

}  // namespace detail

/// Dot products of the columns of x and y.
/// math    d_j = sum_i x_ij*y_ij, in double; d is cols x 1
/// errors  shape_error if shapes disagree
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y, MutableViewIn<typename B::space> D>
void column_dots(B& be, X x, Y y, D d) {
  require_shape(y, x.rows, x.cols, "column_dots", "y");
  require_shape(d, x.cols, 1, "column_dots", "d");
  be.reduce_columns(x.rows, x.cols, detail::column_dots<read_only_t<X>, read_only_t<Y>, D>{{}, x, y, d});
}

namespace reductions {

/// cell = the sum over columns of what Dots makes of each, along memory.
template <template <class, class, class> class Dots, class B, class X, class Y>
void sum_of_dots(B& be, X x, Y y, matrix_view<double, typename B::space> cell, std::string_view where) {
  using D = matrix_view<double, typename B::space>;
  require_shape(y, x.rows, x.cols, where, "y");
  if (x.row_stride > x.col_stride && x.cols > 1) x = x.transposed(), y = y.transposed();
  scratch<B> temporary(be);
  D const sums = temporary.template matrix<double>(x.cols, 1);
  be.reduce_columns(x.rows, x.cols, Dots<X, Y, D>{{}, x, y, sums});
  be.reduce_columns(sums.rows, 1, detail::total<D, D>{{}, sums, cell});
}

}  // namespace reductions

/// The dot product of two matrices as vectors.
/// math    cell = sum_ij x_ij*y_ij, in double
/// errors  shape_error if shapes disagree
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y>
void dot(B& be, X x, Y y, matrix_view<double, typename B::space> cell) {
  reductions::sum_of_dots<detail::column_dots>(be, read_only(x), read_only(y), cell, "dot");
}

/// The same of magnitudes.
/// math    cell = sum_ij |x_ij*y_ij|, in double
/// errors  shape_error if shapes disagree
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y>
void abs_dot(B& be, X x, Y y, matrix_view<double, typename B::space> cell) {
  reductions::sum_of_dots<detail::column_abs_dots>(be, read_only(x), read_only(y), cell, "abs_dot");
}

/// The squared Frobenius norm. NaN or infinity in x, or magnitudes above 1e154, make it non-finite.
/// math    cell = ||x||_F^2, in double
template <Backend B, ViewIn<typename B::space> X>
void sum_of_squares(B& be, X x, matrix_view<double, typename B::space> cell) {
  dot(be, x, x, cell);
}

/// The largest magnitude; NaN if any entry is NaN.
/// math    cell = max |x_ij|
template <Backend B, ViewIn<typename B::space> X>
void max_abs(B& be, X x, matrix_view<double, typename B::space> cell) {
  using D = matrix_view<double, typename B::space>;
  if (x.row_stride > x.col_stride && x.cols > 1) x = x.transposed();
  scratch<B> temporary(be);
  D const each = temporary.template matrix<double>(x.cols, 1);
  be.reduce_columns(x.rows, x.cols, detail::max_abs<read_only_t<X>, D>{x, each});
  be.reduce_columns(each.rows, 1, detail::max_abs<read_only_t<D>, D>{each, cell});
}

/// A matrix fetched to host memory, column-major. Waits for the backend.
template <Backend B, ViewIn<typename B::space> X>
std::vector<typename X::value_type> read_all(B& be, X x) {
  std::vector<typename X::value_type> host(static_cast<std::size_t>(x.rows * x.cols));
  be.copy(x, col_major(host.data(), x.rows, x.cols));
  be.synchronize();
  return host;
}

/// The value behind a 1x1 view. Waits for the backend.
template <Backend B, ViewIn<typename B::space> X>
auto read_scalar(B& be, X cell) {
  require_shape(cell, 1, 1, "read_scalar", "cell");
  return read_all(be, cell)[0];
}

}  // namespace loraga
