#pragma once
#include <loraga/linalg/reductions.hpp>

namespace loraga {

namespace detail {

template <class X, class Y, class D>
struct same_sign : sum_of_doubles {
  X x;
  Y y;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const {
    double const a = as_double(x(i, j)), b = as_double(y(i, j));
    if (is_nan(a) || is_nan(b)) return a + b;
    return (a > 0) - (a < 0) == (b > 0) - (b < 0);
  }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

template <class X, class Y, class D>
struct same_magnitude : sum_of_doubles {
  X x;
  Y y;
  D d;
  LORAGA_HD double map(index_t i, index_t j) const {
    double const a = fabs(as_double(x(i, j))), b = fabs(as_double(y(i, j)));
    if (is_nan(a) || is_nan(b)) return a + b;
    return a <= 10 * b && b <= 10 * a;
  }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sum; }
};

}  // namespace detail

/// Share of entries for which F counts 1. Waits for the backend.
template <template <class, class, class> class F, Backend B, class X, class Y>
double share_of_entries(B& be, X x, Y y, std::string_view where) {
  require_shape(y, x.rows, x.cols, where, "y");
  if (x.rows * x.cols == 0) raise<shape_error>(where, "x", shape_text(x.rows, x.cols), "at least one entry");
  scratch<B> temporary(be);
  auto const each = temporary.template matrix<double>(x.cols, 1), all = temporary.template matrix<double>(1, 1);
  be.reduce_columns(x.rows, x.cols, F<X, Y, decltype(each)>{{}, x, y, each});
  be.reduce_columns(each.rows, 1, detail::total<decltype(each), decltype(all)>{{}, each, all});
  double const sum = read_scalar(be, all);
  if (!is_finite(sum)) raise<numeric_error>(where, "x or y", "NaN somewhere", "numbers");
  return sum / static_cast<double>(x.rows * x.cols);
}

/// Share of entries of two gradients with the same sign; 0 counts as a sign of its own. Waits for the backend.
/// errors  shape_error if shapes disagree; numeric_error if there is a NaN
/// source  arXiv:2407.05000, appendix on sampled batch size
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y>
double sign_similarity(B& be, X x, Y y) {
  return share_of_entries<detail::same_sign>(be, x, y, "sign_similarity");
}

/// Share of entries within a factor 10 of each other in magnitude. Waits for the backend.
/// errors  as sign_similarity
/// source  as sign_similarity
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y>
double magnitude_similarity(B& be, X x, Y y) {
  return share_of_entries<detail::same_magnitude>(be, x, y, "magnitude_similarity");
}

}  // namespace loraga
