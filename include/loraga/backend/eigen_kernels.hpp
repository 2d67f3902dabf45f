#pragma once
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <loraga/backend/multiply.hpp>
#include <loraga/backend/small_factorisations.hpp>
#ifdef _OPENMP
#include <omp.h>
#endif

// Every call the CPU backend makes into Eigen, all of them single-threaded: Eigen changes bits with its thread count,
// so parallelism is ours, over fixed tiles. All are templates, so that a file pays (in compile time) for what it uses.

namespace loraga::eigen {

template <class T>
using dense = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using dense_map = Eigen::Map<dense<T>, 0, Eigen::OuterStride<>>;

/// A column-major view as an Eigen map.
template <class T>
dense_map<T> map(matrix_view<T, host_space> v) {
  return {v.data, v.rows, v.cols, Eigen::OuterStride<>(v.col_stride)};
}

/// Keeps Eigen's OpenMP off in the calling thread (a per-thread setting of OpenMP; no effect on other threads).
struct single_threaded {
#ifdef _OPENMP
  int const before = omp_get_max_threads();
  single_threaded() { omp_set_num_threads(1); }
  ~single_threaded() { omp_set_num_threads(before); }
#else
  single_threaded() {}
#endif
  single_threaded(single_threaded const&) = delete;
  single_threaded& operator=(single_threaded const&) = delete;
};

/// z = H_0*...*H_{n-2}*z for the reflectors of a tridiagonalisation, in blocks: a block of reflectors is
/// I - V*T*VT, so that the work is products. (Eigen's own form of this takes five seconds to compile.)
template <class T>
void apply_reflectors(dense<T> const& packed, Eigen::Matrix<T, Eigen::Dynamic, 1> const& coefficients, dense<T>& z,
                      packing& memory) {
  auto const view_of = [](dense<T>& m) {
    return matrix_view<T, host_space>(m.data(), m.rows(), m.cols(), 1, m.rows());
  };
  index_t const n = packed.rows(), block = 32;
  for (index_t last = n - 1; last > 0; last -= std::min(block, last)) {
    index_t const first = std::max<index_t>(0, last - block), width = last - first;
    dense<T> v = dense<T>::Zero(n, width), t = dense<T>::Zero(width, width), overlaps = dense<T>::Zero(width, width);
    for (index_t j = 0; j < width; ++j) {
      index_t const c = first + j;
      v(c + 1, j) = 1;
      for (index_t i = c + 2; i < n; ++i) v(i, j) = packed(i, c);
    }
    auto const vv = view_of(v), tv = view_of(t);
    multiply_add<T>(1, vv.transposed(), vv, view_of(overlaps), memory);
    for (index_t j = 0; j < width; ++j) {
      t(j, j) = coefficients(first + j);
      for (index_t i = 0; i < j; ++i)
        for (index_t q = i; q < j; ++q) t(i, j) -= t(j, j) * t(i, q) * overlaps(q, j);
    }
    dense<T> inner = dense<T>::Zero(width, z.cols()), scaled = dense<T>::Zero(width, z.cols());
    multiply_add<T>(1, vv.transposed(), view_of(z), view_of(inner), memory);
    multiply_add<T>(1, tv, view_of(inner), view_of(scaled), memory);
    multiply_add<T>(-1, vv, view_of(scaled), view_of(z), memory);
  }
}

/// Symmetric s: all values, descending, and the leading k eigenvectors in its first k columns; the rest of s is
/// destroyed. False if s is not finite or the iteration did not converge.
template <class T>
bool eigh(matrix_view<T, host_space> s, index_t k, matrix_view<T, host_space> values, packing& memory) {
  single_threaded const guard;
  auto m = map(s);
  if (!m.allFinite()) return false;
  index_t const n = s.cols;
  if (n == 1) {
    values(0, 0) = s(0, 0);
    s(0, 0) = 1;
    return true;
  }
  // Eigen's test for a negligible off-diagonal entry assumes entries near 1.
  T const largest = m.cwiseAbs().maxCoeff();
  T const unit = largest > 0 ? std::ldexp(T(1), -std::ilogb(largest)) : T(1);
  m *= unit;
  Eigen::Tridiagonalization<dense<T>> const tridiagonal(m);
  Eigen::SelfAdjointEigenSolver<dense<T>> solver;
  solver.computeFromTridiagonal(tridiagonal.diagonal(), tridiagonal.subDiagonal());
  if (solver.info() != Eigen::Success) return false;
  dense<T> w(n, k);
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i < n; ++i) w(i, j) = solver.eigenvectors()(i, n - 1 - j);
  apply_reflectors<T>(tridiagonal.packedMatrix(), tridiagonal.householderCoefficients(), w, memory);
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i < n; ++i) s(i, j) = w(i, j);
  for (index_t i = 0; i < n; ++i) values(i, 0) = solver.eigenvalues()(n - 1 - i) / unit;
  return true;
}

}  // namespace loraga::eigen
