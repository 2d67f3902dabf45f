#pragma once
#include <algorithm>
#include <cmath>
#include <loraga/backend/packets.hpp>
#include <loraga/core/view.hpp>

// What is factored on the host beside the products: small matrices in double. Eigen has all of this; written out here
// it costs a fifth of the time to compile, and the triangular inverse a third of the operations.

namespace loraga::eigen {

/// Loops over contiguous numbers, in Eigen's packets: compilers do not vectorise sums by themselves.
template <class T>
struct vector_loops : packets<T> {
  using packet = typename packets<T>::type;
  using packets<T>::lanes, packets<T>::load, packets<T>::store, packets<T>::all, packets<T>::madd;

  /// y += the sum of a_k*x_k over `count` columns x_k, `ld` apart. Four columns at a time: y is read and written once
  /// for all of them.
  static void add(index_t n, index_t count, T const* a, T const* x, index_t ld, T* y) {
    index_t k = 0;
    for (; k + 4 <= count; k += 4) {
      T const* const x0 = x + k * ld;
      T const f[4] = {a[k], a[k + 1], a[k + 2], a[k + 3]};
      packet const f0 = all(f[0]), f1 = all(f[1]), f2 = all(f[2]), f3 = all(f[3]);
      index_t i = 0;
      for (; i + lanes <= n; i += lanes) {
        packet const left = madd(f1, load(x0 + ld + i), madd(f0, load(x0 + i), load(y + i)));
        store(y + i, madd(f3, load(x0 + 3 * ld + i), madd(f2, load(x0 + 2 * ld + i), left)));
      }
      for (; i < n; ++i)
        for (index_t c = 0; c < 4; ++c) y[i] += f[c] * x0[c * ld + i];
    }
    for (; k < count; ++k) {
      T const f = a[k];
      index_t i = 0;
      for (; i + lanes <= n; i += lanes) store(y + i, madd(all(f), load(x + k * ld + i), load(y + i)));
      for (; i < n; ++i) y[i] += f * x[k * ld + i];
    }
  }
};

/// L in the lower triangle of s = L*LT, and -LT above the diagonal. False, and s is then destroyed, if a pivot is not
/// above `relative` times its diagonal entry and `absolute` (or is NaN).
template <class T>
bool cholesky(matrix_view<T, host_space> s, double relative, double absolute) {
  index_t const n = s.cols, ld = s.col_stride;
  for (index_t j = 0; j < n; ++j) {
    T* const column = s.data + j * (ld + 1);
    T const before = *column;
    for (index_t p = 0; p < j; ++p) s(p, j) = -s(j, p);
    vector_loops<T>::add(n - j, j, s.data + j * ld, s.data + j, ld, column);
    T const pivot = *column;
    if (!is_finite(pivot) || !(pivot > relative * before && pivot > absolute)) return false;
    T const root = std::sqrt(pivot);
    *column = root;
    for (index_t i = 1; i < n - j; ++i) column[i] /= root;
  }
  return true;
}

/// The inverse of LT, upper triangular, in place of what `cholesky` left.
template <class T>
void invert_transposed(matrix_view<T, host_space> s) {
  index_t const n = s.cols, ld = s.col_stride;
  for (index_t j = 0; j < n; ++j) {
    T* const x = s.data + j * ld;
    T const last = 1 / x[j];
    // x = (columns before it)*x/x_j. A group's factors lie where its sum goes, so they are taken out first.
    for (index_t p = 0; p < j; p += 4) {
      index_t const count = std::min<index_t>(4, j - p);
      T factors[4];
      for (index_t c = 0; c < count; ++c) {
        factors[c] = last * x[p + c];
        x[p + c] = 0;
      }
      vector_loops<T>::add(p + count, count, factors, s.data + p * ld, ld, x);
    }
    x[j] = last;
    for (index_t i = j + 1; i < n; ++i) x[i] = 0;
  }
}

/// s = RT*R becomes R^-1 in place; false where `cholesky` says so.
template <class T>
bool cholesky_inverse(matrix_view<T, host_space> s, double relative, double absolute) {
  if (!cholesky(s, relative, absolute)) return false;
  invert_transposed(s);
  return true;
}

}  // namespace loraga::eigen
