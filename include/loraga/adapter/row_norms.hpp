#pragma once
#include <loraga/linalg/reductions.hpp>

namespace loraga {

namespace detail {

/// n(j) = ||row j of W + s*(B*A - B0*A0)||, from products with W and with A alone.
template <class W, class A, class F, class M, class N>
struct row_norm {
  W w;
  A at;           // columns: rows of A, then of A0; double
  F b, b0;        // b0 may be empty
  M squares;      // ||W_j||^2
  M cross, gram;  // W*[A; A0]T, [A; A0]*[A; A0]T
  double scale;
  N norm;
  LORAGA_HD double factor(index_t j, index_t i) const {
    return i < b.cols ? scale * as_double(b(j, i)) : -scale * as_double(b0(j, i - b.cols));
  }
  LORAGA_HD void operator()(index_t j, index_t) const {
    double const whole = squares(j, 0);
    double sum = whole;
    for (index_t i = 0; i < gram.rows; ++i) {
      double inner = 2 * cross(j, i);
      for (index_t k = 0; k < gram.rows; ++k) inner += gram(i, k) * factor(j, k);
      sum += factor(j, i) * inner;
    }
    if (!(sum > 1e-4 * whole)) {  // too much has cancelled: entry by entry
      sum = 0;
      for (index_t k = 0; k < w.cols; ++k) {
        double entry = as_double(w(j, k));
        for (index_t i = 0; i < at.cols; ++i) entry += factor(j, i) * at(k, i);
        sum += entry * entry;
      }
    }
    norm(j, 0) = static_cast<typename N::value_type>(sqrt(sum));
  }
};

}  // namespace detail

/// The row norms of W + s*(B*A - B0*A0) without that matrix, in double until the end.
/// math    norm_j^2 = ||W_j||^2 + 2s*(W_j*AT)*B_j + s^2*B_j*(A*AT)*B_jT, with [A; A0] and [B, -B0] where there is a start;
///         rows in which more than 99.99 % cancels are formed instead
/// shapes  squares out x 1, as row_squares gives it; norm out x 1; start_a, start_b may be empty
/// cost    2*out*in*r operations in double
/// memory  scratch in double for 256 rows of W, for A and for W*AT
template <Backend B, class W, class A, class F, MutableViewIn<typename B::space> N>
void row_norms(B& be, W w, matrix_view<double const, typename B::space> squares, double scale, A a, F b, A start_a,
               F start_b, N norm) {
  index_t const r = a.rows + start_a.rows;
  scratch<B> temporary(be);
  auto const at = temporary.template matrix<double>(w.cols, r);
  convert(be, a.transposed(), at.columns(0, a.rows));
  if (start_a.rows > 0) convert(be, start_a.transposed(), at.columns(a.rows, start_a.rows));
  auto const gram = temporary.template matrix<double>(r, r), cross = temporary.template matrix<double>(w.rows, r);
  be.gemm(1.0, at.transposed(), at, 0.0, gram);
  for (index_t first = 0; first < w.rows; first += 256) {
    index_t const n = std::min<index_t>(256, w.rows - first);
    scratch<B> piece(be);
    auto const rows = piece.template matrix<double>(w.cols, n);
    convert(be, w.row_range(first, n).transposed(), rows);
    be.gemm(1.0, rows.transposed(), at, 0.0, cross.row_range(first, n));
  }
  using M = matrix_view<double const, typename B::space>;
  be.for_each(w.rows, 1, detail::row_norm<W, M, F, M, N>{w, at, b, start_b, squares, cross, gram, scale, norm});
}

/// squares_j = ||W_j||^2, in double.
template <Backend B, class W>
void row_squares(B& be, W w, matrix_view<double, typename B::space> squares) {
  column_dots(be, w.transposed(), w.transposed(), squares);
}

}  // namespace loraga
