#pragma once
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <loraga/backend/small_factorisations.hpp>
#include <loraga/backend/thin_product.hpp>
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

/// Eigen's block sizes for one product, over memory of ours (Eigen would allocate its own at every call).
template <class T>
struct blocking : Eigen::internal::level3_blocking<T, T> {
  blocking(index_t m, index_t n, index_t k, packing& memory) {
    this->m_mc = m;
    this->m_nc = n;
    this->m_kc = k;
    Eigen::internal::computeProductBlockingSizes<T, T, 1>(this->m_kc, this->m_mc, this->m_nc, Eigen::Index{1});
    auto const round = [](Eigen::Index elements) {
      return (static_cast<std::size_t>(elements) * sizeof(T) + 63) / 64 * 64;
    };
    std::size_t const a = round(this->m_mc * this->m_kc), b = round(this->m_kc * this->m_nc);
    std::byte* const p = memory.at_least(a + b);
    this->m_blockA = reinterpret_cast<T*>(p);
    this->m_blockB = reinterpret_cast<T*>(p + a);
  }
};

/// c += alpha*a*b for a column-major c; a and b have a unit stride either way, unless they are a single row or column.
/// Calls Eigen's sequential kernel itself: the public product would add vector and coefficient paths (three times the
/// compile time), threads of its own under OpenMP, and an allocation per call.
template <class T>
void packed_multiply_add(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b,
                         matrix_view<T, host_space> c, packing& memory) {
  auto const by_columns = [](auto const& v) {
    return (v.row_stride == 1 || v.rows == 1) && (v.col_stride >= v.rows || v.cols == 1);
  };
  auto const leading = [&](auto const& v) { return std::max<index_t>(by_columns(v) ? v.col_stride : v.row_stride, 1); };
  using namespace Eigen::internal;
  using traits = gebp_traits<T, T>;
  using result = blas_data_mapper<T, Eigen::Index, Eigen::ColMajor>;
  blocking<T> blocks(c.rows, c.cols, a.cols, memory);
  index_t const mc = std::min(c.rows, blocks.mc()), nc = std::min(c.cols, blocks.nc()), kc = blocks.kc();
  auto const pack_a = [&]<int Order>(index_t i, index_t k, index_t rows, index_t depth) {
    using mapper = const_blas_data_mapper<T, Eigen::Index, Order>;
    gemm_pack_lhs<T, Eigen::Index, mapper, traits::mr, traits::LhsProgress, typename traits::LhsPacket4Packing,
                  Order>()(blocks.blockA(), mapper(a.data, leading(a)).getSubMapper(i, k), depth, rows);
  };
  auto const pack_b = [&]<int Order>(index_t k, index_t j, index_t depth, index_t cols) {
    using mapper = const_blas_data_mapper<T, Eigen::Index, Order>;
    gemm_pack_rhs<T, Eigen::Index, mapper, traits::nr, Order>()(
        blocks.blockB(), mapper(b.data, leading(b)).getSubMapper(k, j), depth, cols);
  };
  bool const a_columns = by_columns(a), b_columns = by_columns(b),
             b_once = mc != c.rows && kc == a.cols && nc == c.cols;
  for (index_t i = 0; i < c.rows; i += mc)
    for (index_t k = 0; k < a.cols; k += kc) {
      index_t const rows = std::min(mc, c.rows - i), depth = std::min(kc, a.cols - k);
      a_columns ? pack_a.template operator()<Eigen::ColMajor>(i, k, rows, depth)
                : pack_a.template operator()<Eigen::RowMajor>(i, k, rows, depth);
      for (index_t j = 0; j < c.cols; j += nc) {
        index_t const cols = std::min(nc, c.cols - j);
        if (!b_once || i == 0)
          b_columns ? pack_b.template operator()<Eigen::ColMajor>(k, j, depth, cols)
                    : pack_b.template operator()<Eigen::RowMajor>(k, j, depth, cols);
        gebp_kernel<T, T, Eigen::Index, result, traits::mr, traits::nr, false, false>()(
            result(c.data, c.col_stride).getSubMapper(i, j), blocks.blockA(), blocks.blockB(), rows, depth, cols,
            alpha);
      }
    }
}

/// The same, by whichever way suits the shape.
template <class T>
void multiply_add(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b,
                  matrix_view<T, host_space> c, packing& memory) {
  if (c.rows == 0 || c.cols == 0 || a.cols == 0) return;
  if (thin_product<T>::pays(c.rows, c.cols, a)) return thin_product<T>::add(alpha, a, b, c, memory);
  if (thin_product<T>::pays(c.cols, c.rows, b.transposed()))
    return thin_product<T>::add(alpha, b.transposed(), a.transposed(), c.transposed(), memory);
  packed_multiply_add(alpha, a, b, c, memory);
}

/// Memory that multiply_add may take for a rows x cols result, whatever the layouts.
template <class T>
void reserve(index_t rows, index_t cols, index_t depth, packing& memory) {
  blocking<T>(rows, cols, depth, memory);
  if (std::min(rows, cols) <= thin_product<T>::limit)
    memory.at_least(std::max(thin_product<T>::bytes(rows, cols, depth), thin_product<T>::bytes(cols, rows, depth)));
}

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
