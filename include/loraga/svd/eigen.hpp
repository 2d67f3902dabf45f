#pragma once
#include <Eigen/SVD>
#include <loraga/backend/cpu.hpp>
#include <loraga/svd/driver.hpp>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace loraga {

namespace detail {

/// Keeps Eigen's OpenMP off in the calling thread: Eigen changes bits with its number of threads.
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

}  // namespace detail

/// Exact triplets, small singular values too: computed in double, finished by Eigen's Jacobi rotations. It has a header
/// of its own because these take seconds to compile. Eigen's divide and conquer would be faster on large matrices. That
/// of 3.4.0 reads out of bounds on matrices of low rank and on those with repeated singular values.
/// math    for m >= n: AT*A = V diag VT; U = orth(A*V); UT*A*V is diagonal but for what the Gram matrix cannot tell,
///         which two-sided Jacobi finds: |s_i - sigma_i| <= about 1e-14*sigma_1
/// errors  shape_error for k outside 1..min(m, n); numeric faults are flags of the result
/// cost    two to three times that of `gram`: 0.8 s for a 1024x1024 matrix, 8 s for 2048x2048, on two cores
struct eigen_svd {
  template <class T>
  auto top(cpu& be, view_list<T, host_space> a, index_t k) const {
    return factor_batch(be, *this, a, k, random_stream{}, "eigen_svd::top");
  }

  /// One attempt at the triplets of an operator, for factor_batch.
  template <class Op, class T>
  void run(cpu& be, Op const& op, triplet_slabs<T, host_space> out, slab_view<int, host_space> flags, caution) const {
    if (op.rows() < op.cols()) return run(be, op.transposed(), out.transposed(), flags, caution::safe);
    index_t const m = op.rows(), n = op.cols(), k = out.s.rows;
    for (index_t b = 0; b < op.count(); ++b) {
      scratch<cpu> temporary(be);
      auto const v = temporary.slab<double>(1, n, n), values = temporary.slab<double>(1, n, 1);
      auto const a = temporary.matrix<double>(m, n), u = temporary.matrix<double>(m, n);
      auto const image = temporary.matrix<double>(m, n), inner = temporary.matrix<double>(n, n);
      axpby(be, op.scale, op.a[b], 0.0, a);
      be.gram_batched(slab_view(a), v);
      be.eigh_batched(v, n, values, flags.matrices(b, 1));
      if (flags[b](0, 0) != svd_usable) continue;
      be.gemm(1.0, a, v[0], 0.0, image);
      be.copy(image, u);
      orthonormalize(be, u, {0, 1});
      be.gemm(1.0, u.transposed(), image, 0.0, inner);
      rotate(be, inner, u, v[0].columns(0, n), out, b, k, flags[b](0, 0));
    }
  }

 private:
  /// The triplets of u*inner*vT.
  template <class T>
  static void rotate(cpu& be, matrix_view<double, host_space> inner, matrix_view<double, host_space> u,
                     matrix_view<double, host_space> v, triplet_slabs<T, host_space> out, index_t b, index_t k,
                     int& flag) {
    detail::single_threaded const guard;
    using dense = Eigen::MatrixXd;
    auto const map = [](matrix_view<double, host_space> x) {
      return Eigen::Map<dense, 0, Eigen::OuterStride<>>(x.data, x.rows, x.cols, Eigen::OuterStride<>(x.col_stride));
    };
    Eigen::JacobiSVD<dense, Eigen::NoQRPreconditioner> const svd(map(inner), Eigen::ComputeFullU | Eigen::ComputeFullV);
    if (svd.info() != Eigen::Success || !svd.singularValues().allFinite()) flag |= svd_not_converged;
    scratch<cpu> temporary(be);
    auto const turn = temporary.matrix<double>(inner.rows, k), turned = temporary.matrix<double>(u.rows, k);
    map(turn) = svd.matrixU().leftCols(k);
    be.gemm(1.0, u, turn, 0.0, turned);
    convert(be, turned, out.u[b]);
    map(turn) = svd.matrixV().leftCols(k);
    be.gemm(1.0, v, turn, 0.0, turned.row_range(0, v.rows));
    convert(be, turned.row_range(0, v.rows), out.v[b]);
    for (index_t i = 0; i < k; ++i) out.s[b](i, 0) = static_cast<T>(svd.singularValues()(i));
  }
};

}  // namespace loraga
