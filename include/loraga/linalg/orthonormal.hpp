#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>

// Orthonormalisation of tall blocks. The fast way is CholeskyQR2 with a Gram matrix in double: a product, a small
// factorisation, a product. The host never looks at the data; a breakdown is reported in a flag. Whoever reads the flag
// repeats the block column by column, which looks at each outcome and works for anything finite.

namespace loraga {

/// When a Cholesky pivot (the squared distance of a column from the span of those before it) counts as a breakdown.
struct pivot_limits {
  double relative, absolute;  ///< a pivot must be above both: relative times the column's squared length, and absolute
};
/// The limits of a first pass, of any block: what rounding of a Gram matrix in double leaves meaningful, relative to
/// the column's length.
inline pivot_limits first_pass(index_t columns) {
  return {4 * std::numeric_limits<double>::epsilon() * static_cast<double>(std::max<index_t>(columns, 8)), 0};
}
/// The limits of a pass over a block that should be orthonormal already. A pivot far below 1 means that the pass before
/// did not work, or that the block lay mostly in the space it was just cleaned of. Rounding then grows by
/// 1/sqrt(pivot).
inline pivot_limits repeated_pass() { return {0, 0.5}; }
/// The limits of a pass that needs no second one: rounding grew by at most 10, and columns are orthonormal to 1e-6.
inline pivot_limits only_pass() { return {1e-2, 0}; }

/// One CholeskyQR pass over a batch.
/// math    S = YT*Y in double, S = RT*R, Q = Y*R^-1; columns keep their order
/// errors  none: where S is not numerically positive definite Q = Y and flags gain svd_ill_conditioned
/// cost    4*rows*cols^2 operations, one scratch block of cols x cols doubles per matrix
/// source  Yamamoto et al., "Roundoff error analysis of the CholeskyQR2 algorithm", ETNA 44, 2015
template <Backend B, class T>
void cholesky_qr(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> q, pivot_limits limits,
                 slab_view<int, typename B::space> flags) {
  scratch<B> temporary(be);
  auto const s = temporary.template slab<double>(y.count, y.cols, y.cols);
  be.gram_batched(y, s);
  be.cholesky_inverse_batched(s, limits.relative, limits.absolute, flags);
  if constexpr (std::is_same_v<T, double>) {
    be.gemm_batched(1.0, y, s, 0.0, q);
  } else {
    auto const r = temporary.template slab<T>(y.count, y.cols, y.cols);
    convert(be, s.side_by_side(), r.side_by_side());
    be.gemm_batched(1.0, y, r, 0.0, q);
  }
}

/// Two CholeskyQR passes, in place: y is orthonormal to a few units of T's rounding unless a flag says otherwise.
/// cost    8*rows*cols^2 operations
/// source  as cholesky_qr
template <Backend B, class T>
void cholesky_qr2(B& be, slab_view<T, typename B::space> y, slab_view<int, typename B::space> flags) {
  scratch<B> temporary(be);
  auto const q = temporary.template slab<T>(y.count, y.rows, y.cols);
  cholesky_qr(be, y, q, first_pass(y.cols), flags);
  cholesky_qr(be, q, y, repeated_pass(), flags);
}

/// CholeskyQR2 of one block, looked at: true if it worked. If not, y still spans at least what it spanned. Waits for
/// the backend.
template <Backend B, class T>
bool try_cholesky_qr2(B& be, matrix_view<T, typename B::space> y) {
  scratch<B> temporary(be);
  auto const flag = temporary.template slab<int>(1, 1, 1);
  fill(be, flag[0], 0);
  cholesky_qr2(be, slab_view(y), flag);
  return read_scalar(be, flag[0]) == 0;
}

/// Makes a column orthogonal to Q and of unit length: column -= Q*(QT*column), repeated until that takes nothing away.
/// False, with a column of no use, if nothing but rounding was left. Rounding lies anywhere, also in Q, so it must not
/// be scaled up.
/// math    one removal leaves an error of eps along Q, relative to the length before; where the last removal left most
///         of the length, the column is orthogonal to a few eps
/// errors  numeric_error if the column holds NaN or infinity
/// source  Giraud, Langou, Rozloznik, van den Eshof, "Rounding error analysis of the classical Gram-Schmidt
///         orthogonalization process", Numer. Math. 101, 2005 (twice is enough); Daniel, Gragg, Kaufman, Stewart 1976
template <Backend B, class T>
bool separate_column(B& be, matrix_view<T const, typename B::space> q, matrix_view<T, typename B::space> column) {
  scratch<B> temporary(be);
  auto const cell = temporary.template matrix<double>(1, 1);
  auto const dots = temporary.template matrix<double>(q.cols, 1);
  auto const factors = temporary.template matrix<T>(q.cols, 1);
  matrix_view<T const, typename B::space> const repeated(column.data, q.rows, q.cols, column.row_stride, 0);
  // Unit length from here on; by a power of two first, where the reciprocal or the square would leave T's range.
  auto const normalise = [&] {
    max_abs(be, column, cell);
    double const peak = read_scalar(be, cell);
    if (!is_finite(peak)) raise<numeric_error>("orthonormalize", "y", "not finite", "finite numbers");
    if (peak == 0) return 0.0;
    double const power = peak < 1e-15 || peak > 1e15 ? std::ldexp(1.0, std::clamp(-std::ilogb(peak), -120, 120)) : 1.0;
    if (power != 1) axpby(be, power, column, 0.0, column);
    sum_of_squares(be, column, cell);
    double const length = std::sqrt(read_scalar(be, cell));
    axpby(be, 1 / length, column, 0.0, column);
    return length / power;
  };
  if (normalise() == 0) return false;
  double const noise = 32 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (int round = 0; round < 4; ++round) {
    if (q.cols > 0) {
      column_dots(be, q, repeated, dots);  // in double: rounding of many equal terms would add up
      convert(be, dots, factors);
      be.gemm(-1.0, q, factors, 1.0, column);
    }
    double const left = normalise();
    if (left < noise) return false;
    if (round > 0 && left > 0.5) return true;  // never after one removal: errors of Q's own would add up
  }
  return false;
}

/// Makes columns `first` and later of q orthonormal, to one another and to those before, which are orthonormal already.
/// It goes column by column and looks at each outcome. A column in which nothing new is left is replaced by a random
/// one, so this works for every finite q. The span and the order of the others stay. Waits for the backend some times
/// per column.
/// errors  shape_error if q has more columns than rows; numeric_error if it holds NaN or infinity
/// cost    4*rows*cols^2 operations or more
template <Backend B, class T>
void orthonormalize_columns(B& be, matrix_view<T, typename B::space> q, index_t first, random_stream stream) {
  if (q.rows < q.cols)
    raise<shape_error>("orthonormalize", "y", shape_text(q.rows, q.cols), "at least as many rows as columns");
  for (index_t j = first; j < q.cols; ++j) {
    auto const column = q.columns(j, 1);
    auto const replacements = derive(stream, static_cast<std::uint64_t>(j));
    for (int tries = 0; !separate_column(be, matrix_view<T const, typename B::space>(q.columns(0, j)), column);
         ++tries) {
      if (tries == 30)  // a random column misses what is not spanned with a probability of about eps
        raise<numeric_error>("orthonormalize", "y", "spanned by other columns",
                             "columns before it that are orthonormal");
      fill_test_matrix(be, column, derive(replacements, static_cast<std::uint64_t>(tries)));
    }
  }
}

/// Makes y's columns orthonormal, with a span that holds y's, for any finite y. CholeskyQR2 where that works, else
/// column by column. Columns keep their order. Waits for the backend at each step.
/// errors  numeric_error if y holds NaN or infinity; shape_error if y has more columns than rows
template <Backend B, class T>
void orthonormalize(B& be, matrix_view<T, typename B::space> y, random_stream stream) {
  if (y.rows < y.cols)
    raise<shape_error>("orthonormalize", "y", shape_text(y.rows, y.cols), "at least as many rows as columns");
  if (y.cols == 0) return;
  [[maybe_unused]] auto const precise = be.full_precision();
  double largest = 0;
  {
    scratch<B> temporary(be);
    auto const cell = temporary.template matrix<double>(1, 1);
    max_abs(be, y, cell);
    largest = read_scalar(be, cell);
    if (!is_finite(largest)) raise<numeric_error>("orthonormalize", "y", "not finite", "finite numbers");
  }
  // far from 1, products with R^-1 could leave T's range; a power of two changes no bit of the result
  if (largest > 0 && (largest < 1e-30 || largest > 1e30))
    axpby(be, std::ldexp(1.0, std::clamp(-std::ilogb(largest), -120, 120)), y, 0.0, y);
  if (try_cholesky_qr2(be, y)) return;
  orthonormalize_columns(be, y, 0, stream);
}

/// y becomes orthonormal columns of a random subspace: they stand in where there is nothing to find.
/// errors  shape_error if y has more columns than rows
template <Backend B, class T>
void random_orthonormal(B& be, matrix_view<T, typename B::space> y, random_stream stream) {
  fill_test_matrix(be, y, stream);
  orthonormalize(be, y, derive(stream, 1));
}

}  // namespace loraga
