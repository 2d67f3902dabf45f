#pragma once
#include <algorithm>
#include <loraga/backend/cuda_split.cuh>
#include <loraga/linalg/elementwise.hpp>

// Products of types that cuBLAS does not take together: thin operands in parts, all else by wider copies.

namespace loraga::gpu {

/// The most that is widened of an operand at a time.
inline constexpr index_t widened_bytes = index_t{64} << 20;

/// v in T: itself, or a copy in scratch.
template <class T, class B, class U, class Space>
matrix_view<T const, Space> widened(B& be, scratch<B>& temporary, matrix_view<U const, Space> v) {
  if constexpr (std::is_same_v<U, T>) {
    return v;
  } else {
    if (!by_columns(v)) return widened<T>(be, temporary, v.transposed()).transposed();
    auto const out = temporary.template matrix<T>(v.rows, v.cols);
    convert(be, v, out);
    return out;
  }
}

/// c = alpha*a*b + beta*c by float copies of what is not float (or double of what is not double), of at most 64 MB:
/// larger products are halved, a sum only where it needs no rounding in between.
template <class B, class TA, class TB, class TC, class Space>
void multiply_widened(B& be, double alpha, matrix_view<TA const, Space> a, matrix_view<TB const, Space> b, double beta,
                      matrix_view<TC, Space> c) {
  using T = compute_t<TC>;
  index_t const most = widened_bytes / static_cast<index_t>(sizeof(T));
  index_t const of_a = std::is_same_v<T, TA> ? 0 : a.rows * a.cols, of_b = std::is_same_v<T, TB> ? 0 : b.rows * b.cols,
                of_c = std::is_same_v<T, TC> ? 0 : c.rows * c.cols;
  bool const cuts_depth = of_c == 0 && a.cols > std::max(of_a >= of_b ? a.rows : 0, of_b >= of_a ? b.cols : 0);
  bool const cuts_columns = of_c >= std::max(of_a, of_b) ? c.cols > c.rows : of_b > of_a;
  index_t const n = (cuts_depth ? a.cols : cuts_columns ? c.cols : c.rows) / 2;
  if (std::max({of_a, of_b, of_c}) > most && n > 0) {
    if (cuts_depth) {
      multiply_widened(be, alpha, a.columns(0, n), b.row_range(0, n), beta, c);
      multiply_widened(be, alpha, a.columns(n, a.cols - n), b.row_range(n, a.cols - n), 1.0, c);
    } else if (cuts_columns) {
      multiply_widened(be, alpha, a, b.columns(0, n), beta, c.columns(0, n));
      multiply_widened(be, alpha, a, b.columns(n, c.cols - n), beta, c.columns(n, c.cols - n));
    } else {
      multiply_widened(be, alpha, a.row_range(0, n), b, beta, c.row_range(0, n));
      multiply_widened(be, alpha, a.row_range(n, c.rows - n), b, beta, c.row_range(n, c.rows - n));
    }
    return;
  }
  scratch<B> temporary(be);
  auto const wide_a = widened<T>(be, temporary, a), wide_b = widened<T>(be, temporary, b);
  if constexpr (std::is_same_v<T, TC>) {
    be.gemm(alpha, wide_a, wide_b, beta, c);
  } else {
    auto const sum = temporary.template matrix<T>(c.rows, c.cols);
    be.gemm(alpha, wide_a, wide_b, 0.0, sum);
    axpby(be, 1.0, sum, beta, c);
  }
}

/// c = alpha*a*b + beta*c for a column-major c that is not empty.
template <class B, class TA, class TB, class TC, class Space>
void multiply_mixed(B& be, double alpha, matrix_view<TA const, Space> a, matrix_view<TB const, Space> b, double beta,
                    matrix_view<TC, Space> c) {
  if constexpr (has_thin_product<TA, TB, TC>) {
    if constexpr (std::is_same_v<TA, float>) {
      if (is_thin(c.rows, c.cols, a.cols)) return multiply_thin(be, alpha, a, b, beta, c);
    } else if (is_thin(c.cols, c.rows, a.cols)) {
      return multiply_thin(be, alpha, b.transposed(), a.transposed(), beta, c.transposed());
    }
  } else if constexpr (has_outer_product<TA, TB, TC>) {
    if (is_thin(a.cols, c.rows, c.cols)) return multiply_outer(be, alpha, a, b, beta, c);
  }
  multiply_widened(be, alpha, a, b, beta, c);
}

}  // namespace loraga::gpu
