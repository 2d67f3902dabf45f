#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>

// Orthonormalisation of tall blocks. The fast way is CholeskyQR2 with a Gram matrix in double: a product, a small
// factorisation, a product, with no look at the data from the host. It reports a breakdown in a flag; whoever reads
// the flag repeats the block through `orthonormalize`, which tries ever safer ways and looks at each outcome.

namespace loraga {

/// When a Cholesky pivot (the squared distance of a column from the span of those before it) counts as a breakdown.
struct pivot_limits {
  double relative, absolute;
};
/// A first pass, of any block: relative to the column's length, what rounding of a Gram matrix in double leaves
/// meaningful.
inline pivot_limits first_pass(index_t columns) {
  return {4 * std::numeric_limits<double>::epsilon() * static_cast<double>(std::max<index_t>(columns, 8)), 0};
}
/// A pass over a block that should be orthonormal already: a pivot far below 1 means that what went before did not
/// work, or that the block lay mostly in a space it was just cleaned of (where rounding then grows by 1/sqrt(pivot)).
inline pivot_limits repeated_pass() { return {0, 0.5}; }

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

/// Two CholeskyQR passes, in place: orthonormal to a few units of T's rounding unless a flag says otherwise.
template <Backend B, class T>
void cholesky_qr2(B& be, slab_view<T, typename B::space> y, slab_view<int, typename B::space> flags) {
  scratch<B> temporary(be);
  auto const q = temporary.template slab<T>(y.count, y.rows, y.cols);
  cholesky_qr(be, y, q, first_pass(y.cols), flags);
  cholesky_qr(be, q, y, repeated_pass(), flags);
}

/// CholeskyQR2 of one block, looked at: true if it worked. Where not, y still spans at least what it spanned.
template <Backend B, class T>
bool try_cholesky_qr2(B& be, matrix_view<T, typename B::space> y) {
  scratch<B> temporary(be);
  auto const flag = temporary.template slab<int>(1, 1, 1);
  fill(be, flag[0], 0);
  cholesky_qr2(be, slab_view(y), flag);
  return read_scalar(be, flag[0]) == 0;
}

/// CholeskyQR with a shifted Gram matrix, then CholeskyQR2: for blocks whose condition number is too large for the
/// Gram matrix (above 1e7) but that have full rank in double. True if it worked.
/// source  Fukaya et al., "Shifted Cholesky QR for computing the QR factorization of ill-conditioned matrices", SISC
/// 2020
template <Backend B, class T>
bool shifted_cholesky_qr3(B& be, matrix_view<T, typename B::space> y) {
  {
    scratch<B> temporary(be);
    auto const s = temporary.template slab<double>(1, y.cols, y.cols);
    auto const flag = temporary.template slab<int>(1, 1, 1);
    fill(be, flag[0], 0);
    be.gram_batched(slab_view(y), s);
    auto const host = read_all(be, s[0]);
    double trace = 0;
    for (index_t j = 0; j < y.cols; ++j) trace += host[static_cast<std::size_t>(j * (y.cols + 1))];
    double const l = static_cast<double>(y.cols), terms = static_cast<double>(y.rows) * l + l * (l + 1);
    auto shifted = host;
    for (index_t j = 0; j < y.cols; ++j)
      shifted[static_cast<std::size_t>(j * (y.cols + 1))] +=
          11 * terms * std::numeric_limits<double>::epsilon() / 2 * trace;
    be.copy(col_major(shifted.data(), y.cols, y.cols), s[0]);
    be.cholesky_inverse_batched(s, 0.0, 0.0, flag);
    if (read_scalar(be, flag[0]) != 0) return false;
    auto const r = temporary.template matrix<T>(y.cols, y.cols);
    auto const q = temporary.template matrix<T>(y.rows, y.cols);
    convert(be, s[0], r);
    be.gemm(1.0, y, r, 0.0, q);
    be.copy(q, y);
  }
  return try_cholesky_qr2(be, y);
}

/// SVQB: the eigenvectors of the (diagonally scaled) Gram matrix give the basis, directions below rounding are dropped
/// and random columns take their place. The order of columns is lost. True if it worked.
/// source  Stathopoulos, Wu, "A block orthogonalization procedure with constant synchronization requirements", SISC
/// 2002
template <Backend B, class T>
bool svqb(B& be, matrix_view<T, typename B::space> y, random_stream stream) {
  {
    index_t const l = y.cols;
    scratch<B> temporary(be);
    auto const s = temporary.template slab<double>(1, l, l), values = temporary.template slab<double>(1, l, 1);
    auto const flag = temporary.template slab<int>(1, 1, 1);
    fill(be, flag[0], 0);
    be.gram_batched(slab_view(y), s);
    auto const at = [l](index_t i, index_t j) { return static_cast<std::size_t>(i + j * l); };
    auto host = read_all(be, s[0]);
    std::vector<double> inverse_norm(static_cast<std::size_t>(l));
    for (index_t j = 0; j < l; ++j) {
      double const d = host[at(j, j)];
      inverse_norm[static_cast<std::size_t>(j)] = d > 0 ? 1 / std::sqrt(d) : 0;
    }
    for (index_t j = 0; j < l; ++j)
      for (index_t i = 0; i < l; ++i)
        host[at(i, j)] *= inverse_norm[static_cast<std::size_t>(i)] * inverse_norm[static_cast<std::size_t>(j)];
    auto const upload = [&] { be.copy(col_major(host.data(), l, l), s[0]); };
    upload();
    be.eigh_batched(s, l, values, flag);
    if (read_scalar(be, flag[0]) != 0) return false;
    host = read_all(be, s[0]);
    auto const lambda = read_all(be, values[0]);
    // Rounding of y itself decides what is noise: squares of T's unit, relative to the largest.
    double const unit = static_cast<double>(std::numeric_limits<T>::epsilon());
    double const least = std::max(unit * unit, first_pass(l).relative) * std::max(lambda[0], 0.0);
    index_t kept = 0;
    while (kept < l && lambda[static_cast<std::size_t>(kept)] > least) ++kept;
    for (index_t j = 0; j < kept; ++j)
      for (index_t i = 0; i < l; ++i)
        host[at(i, j)] *= inverse_norm[static_cast<std::size_t>(i)] / std::sqrt(lambda[static_cast<std::size_t>(j)]);
    upload();
    be.synchronize();  // `host` ends before the next wait
    auto const q = temporary.template matrix<T>(y.rows, l), w = temporary.template matrix<T>(l, l);
    convert(be, s[0], w);
    be.gemm(1.0, y, w.columns(0, kept), 0.0, q.columns(0, kept));
    fill_signs(be, q.columns(kept, l - kept), stream, 1 / std::sqrt(static_cast<double>(y.rows)));
    be.copy(q, y);
  }
  return try_cholesky_qr2(be, y);
}

/// Orthonormal columns whose span holds y's, for any finite y: CholeskyQR2; with a shift and a third pass; SVQB with
/// rank drop and completion (not for double); Householder. Waits for the backend at each step.
/// errors  numeric_error if y holds NaN or infinity; shape_error if y has more columns than rows
template <Backend B, class T>
void orthonormalize(B& be, matrix_view<T, typename B::space> y, random_stream stream) {
  if (y.rows < y.cols)
    raise<shape_error>("orthonormalize", "y", shape_text(y.rows, y.cols), "at least as many rows as columns");
  if (y.cols == 0) return;
  [[maybe_unused]] auto const precise = be.full_precision();
  {
    scratch<B> temporary(be);
    auto const largest = temporary.template matrix<double>(1, 1);
    max_abs(be, y, largest);
    double const m = read_scalar(be, largest);
    if (!is_finite(m)) raise<numeric_error>("orthonormalize", "y", "not finite", "finite numbers");
    // far from 1, products with R^-1 could leave T's range; a power of two changes no bit of the result
    if (m > 0 && (m < 1e-30 || m > 1e30)) axpby(be, std::ldexp(1.0, std::clamp(-std::ilogb(m), -120, 120)), y, 0.0, y);
  }
  if (try_cholesky_qr2(be, y) || shifted_cholesky_qr3(be, y)) return;
  // A Gram matrix in double resolves directions down to 1e-8: finer than float's rounding, coarser than double's.
  if (sizeof(T) < sizeof(double) && svqb(be, y, stream)) return;
  be.householder(y);
}

/// Orthonormal columns of a fixed random subspace: what stands in where there is nothing to find.
/// errors  shape_error if y has more columns than rows
template <Backend B, class T>
void random_orthonormal(B& be, matrix_view<T, typename B::space> y, random_stream stream) {
  fill_signs(be, y, stream);
  orthonormalize(be, y, derive(stream, 1));
}

}  // namespace loraga
