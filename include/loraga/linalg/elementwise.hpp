#pragma once
#include <loraga/concepts.hpp>

// Elementwise operations over any backend's for_each. Each is a named functor, so that the same text runs as a CUDA
// kernel, under Thrust, and on the CPU. `in_steps` lets a backend launch many of a type as one (see in_step).

namespace loraga {

namespace detail {

template <class Y>
struct fill {
  static constexpr bool in_steps = true;
  Y y;
  compute_t<typename Y::value_type> value;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) = static_cast<typename Y::value_type>(value); }
};

/// y = a*x + b*y in compute_t of y; b = 0 never reads y.
template <class X, class Y>
struct axpby {
  static constexpr bool in_steps = true;
  using C = compute_t<typename Y::value_type>;
  C a;
  X x;
  C b;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    C const old = b == C(0) ? C(0) : b * static_cast<C>(y(i, j));
    y(i, j) = static_cast<typename Y::value_type>(a * value_as<C>(x(i, j)) + old);
  }
};

template <class X, class Y>
struct copy {
  static constexpr bool in_steps = true;
  X x;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) = x(i, j); }
};

template <class X, class Y>
struct convert {
  static constexpr bool in_steps = true;
  X x;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    y(i, j) = static_cast<typename Y::value_type>(value_as<C>(x(i, j)));
  }
};

/// Column j of y times d(j, 0).
template <class D, class Y>
struct scale_columns {
  static constexpr bool in_steps = true;
  D d;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    y(i, j) = static_cast<typename Y::value_type>(static_cast<C>(y(i, j)) * static_cast<C>(d(j, 0)));
  }
};

}  // namespace detail

/// Whether y's rows are contiguous, so that elementwise work runs along them.
template <class V>
bool runs_by_rows(V const& y) {
  return y.row_stride > y.col_stride && y.cols > 1;
}

/// y = value.
template <Backend B, MutableViewIn<typename B::space> Y>
void fill(B& be, Y y, double value) {
  if (runs_by_rows(y)) y = y.transposed();
  be.for_each(y.rows, y.cols, detail::fill<Y>{y, static_cast<compute_t<typename Y::value_type>>(value)});
}

/// y = a*x + b*y, rounded once to y's type. b = 0 never reads y.
/// errors  shape_error if shapes differ; alias_error
template <Backend B, ViewIn<typename B::space> X, MutableViewIn<typename B::space> Y>
void axpby(B& be, double a, X x, double b, Y y) {
  require_shape(x, y.rows, y.cols, "axpby", "x");
  require_same_or_distinct(y, x, "axpby", "y", "x");
  if (runs_by_rows(y)) x = x.transposed(), y = y.transposed();
  using C = compute_t<typename Y::value_type>;
  be.for_each(y.rows, y.cols, detail::axpby<read_only_t<X>, Y>{static_cast<C>(a), x, static_cast<C>(b), y});
}

/// y = x, rounded to y's type.
/// errors  shape_error if shapes differ; alias_error
template <Backend B, ViewIn<typename B::space> X, MutableViewIn<typename B::space> Y>
void convert(B& be, X x, Y y) {
  require_shape(x, y.rows, y.cols, "convert", "x");
  require_same_or_distinct(y, x, "convert", "y", "x");
  if (runs_by_rows(y)) x = x.transposed(), y = y.transposed();
  be.for_each(y.rows, y.cols, detail::convert<read_only_t<X>, Y>{x, y});
}

/// Column j of y is multiplied by d(j, 0).
/// errors  shape_error unless d is y.cols x 1
template <Backend B, ViewIn<typename B::space> D, MutableViewIn<typename B::space> Y>
void scale_columns(B& be, D d, Y y) {
  require_shape(d, y.cols, 1, "scale_columns", "d");
  be.for_each(y.rows, y.cols, detail::scale_columns<read_only_t<D>, Y>{d, y});
}

}  // namespace loraga
