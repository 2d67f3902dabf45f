#pragma once
#include <Eigen/SVD>
#include <loraga/backend/cpu.hpp>
#include <loraga/svd/driver.hpp>

namespace loraga {

/// Exact triplets by Eigen's divide-and-conquer bidiagonal SVD, in the type of the matrix. In its own header because
/// every instantiation costs about half a minute and 1 GB to compile.
/// errors  shape_error for k outside 1..min(m, n); numeric faults are flags of the result
/// cost    about 12 s for 4096x4096 floats
struct eigen_svd {
  template <class T>
  auto top(cpu& be, view_list<T, host_space> a, index_t k) const {
    return factor_batch(be, *this, a, k, random_stream{}, "eigen_svd::top");
  }

  template <class Op, class T>
  void run(cpu&, Op const& op, triplet_slabs<T, host_space> out, slab_view<int, host_space> flags, caution) const {
    eigen::single_threaded const guard;
    for (index_t b = 0; b < op.count(); ++b) {
      auto const a = op.a[b];
      eigen::dense<T> dense(a.rows, a.cols);
      for (index_t j = 0; j < a.cols; ++j)
        for (index_t i = 0; i < a.rows; ++i) dense(i, j) = static_cast<T>(op.scale) * static_cast<T>(a(i, j));
      Eigen::BDCSVD<eigen::dense<T>> const svd(dense, Eigen::ComputeThinU | Eigen::ComputeThinV);
      index_t const k = out.s.rows;
      eigen::map(out.u[b]) = svd.matrixU().leftCols(k);
      eigen::map(out.s[b]) = svd.singularValues().head(k);
      eigen::map(out.v[b]) = svd.matrixV().leftCols(k);
      if (svd.info() != Eigen::Success || !eigen::map(out.s[b]).allFinite()) flags[b](0, 0) |= svd_not_converged;
    }
  }
};

}  // namespace loraga
