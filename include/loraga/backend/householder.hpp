#pragma once
#include <cmath>
#include <loraga/core/view.hpp>

namespace loraga {

/// Householder QR on the host in double, unblocked: the last resort of orthonormalize, chosen for never failing
/// rather than for speed. q and reflectors are scratch.
/// math    y (rows >= cols, finite) becomes the thin Q; complete and orthonormal even where y's rank is smaller
/// cost    4*rows*cols^2 operations
template <class T>
void householder_q(matrix_view<T, host_space> y, matrix_view<double, host_space> q,
                   matrix_view<double, host_space> reflectors) {
  index_t const m = y.rows, n = y.cols;
  // columns from `first` on become (I - 2 v vT / |v|^2) of themselves, v the k-th reflector
  auto const reflect = [&](index_t k, index_t first) {
    double const* const v = &reflectors(0, k);
    double length = 0;
    for (index_t i = k; i < m; ++i) length += v[i] * v[i];
    if (length == 0) return;
    for (index_t j = first; j < n; ++j) {
      double* const column = &q(0, j);
      double dot = 0;
      for (index_t i = k; i < m; ++i) dot += v[i] * column[i];
      for (index_t i = k; i < m; ++i) column[i] -= 2 * dot / length * v[i];
    }
  };
  double largest = 0;
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) largest = std::fmax(largest, std::fabs(static_cast<double>(y(i, j))));
  int exponent = 0;
  std::frexp(largest, &exponent);  // squares below neither overflow nor vanish
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) q(i, j) = std::ldexp(static_cast<double>(y(i, j)), -exponent);
  for (index_t k = 0; k < n; ++k) {
    double norm = 0;
    for (index_t i = k; i < m; ++i) norm += q(i, k) * q(i, k);
    norm = std::sqrt(norm);
    for (index_t i = k; i < m; ++i) reflectors(i, k) = q(i, k);
    reflectors(k, k) += std::copysign(norm, q(k, k));
    reflect(k, k + 1);
  }
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) q(i, j) = i == j;
  for (index_t k = n; k-- > 0;) reflect(k, k);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) y(i, j) = static_cast<T>(q(i, j));
}

}  // namespace loraga
