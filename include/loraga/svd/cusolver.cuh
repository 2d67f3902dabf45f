#pragma once
#include <loraga/backend/cuda.cuh>
#include <loraga/svd/driver.hpp>

// cuSOLVER's decompositions as SVD methods, for comparison and for exact answers.

namespace loraga {

/// Which of cuSOLVER's decompositions.
enum class cusolver_driver {
  gesvd,   ///< exact, by QR iteration
  gesvdj,  ///< exact, by Jacobi rotations
  gesvdp,  ///< exact, by polar decomposition: the fastest for large matrices
  gesvda,  ///< through the Gram matrix, the whole batch in one call; for tall, small matrices
  gesvdr   ///< randomised; needs k + 1 < min(m, n)
};

namespace gpu {

struct note_failure {
  matrix_view<int, device_space> info, flags;  // 1 x n each
  LORAGA_HD void operator()(index_t, index_t b) const {
    if (info(0, b) != 0) flags(0, b) |= svd_not_converged;
  }
};

class jacobi_info {
  gesvdjInfo_t info_ = nullptr;

 public:
  jacobi_info() { check(cusolverDnCreateGesvdjInfo(&info_), "cusolverDnCreateGesvdjInfo"); }
  ~jacobi_info() { cusolverDnDestroyGesvdjInfo(info_); }
  jacobi_info(jacobi_info const&) = delete;
  jacobi_info& operator=(jacobi_info const&) = delete;
  gesvdjInfo_t get() const { return info_; }
};

// The two calls that have no type-independent form.
template <class T, class F, class D>
auto by_type(F of_float, D of_double) {
  if constexpr (std::is_same_v<T, float>) return of_float;
  else return of_double;
}

/// One call of cuSOLVER's 64 bit interface: asks for the sizes, supplies the memory, calls.
template <class Sizes, class Call>
void with_buffers(cuda& be, char const* name, Sizes const& sizes, Call const& call) {
  std::size_t on_device = 0, on_host = 0;
  check(sizes(&on_device, &on_host), name);
  scratch<cuda> temporary(be);
  auto const buffer = temporary.matrix<std::byte>(static_cast<index_t>(on_device), 1);
  check(call(buffer.data, on_device, be.host_work(on_host), on_host), name);
}

}  // namespace gpu

/// Triplets by one of cuSOLVER's decompositions, computed in the type of the matrix (float for 16-bit ones). Exact
/// drivers give all triplets and keep k: for checks, and where n is small.
/// errors  shape_error for k outside 1..min(m, n) (gesvdr: 1..min(m, n)-2); value_error for settings of gesvdr;
///         numeric faults are flags of the result
/// cost    one copy of a matrix, all its triplets for the exact drivers; one matrix after another but for gesvda
/// source  cuSOLVER's documentation of the routines of these names
struct cusolver_svd {
  cusolver_driver driver = cusolver_driver::gesvdp;  ///< which decomposition
  index_t oversampling = 0;                          ///< of gesvdr: columns beyond k; 0 means k, cut to what fits
  int iterations = 2;                                ///< of gesvdr: power iterations

  template <class T>
  auto top(cuda& be, view_list<T, device_space> a, index_t k) const {
    require_value(oversampling >= 0, static_cast<double>(oversampling), "cusolver_svd", "oversampling", "at least 0");
    require_value(iterations >= 0, iterations, "cusolver_svd", "iterations", "at least 0");
    index_t const most = std::min(a.rows, a.cols) - 2;
    if (driver == cusolver_driver::gesvdr && a.count > 0 && k > most)
      raise<shape_error>("cusolver_svd::top", "k", std::to_string(k),
                         "at most " + std::to_string(most) + " for gesvdr");
    return factor_batch(be, *this, a, k, random_stream{}, "cusolver_svd::top");
  }

  /// One attempt at the triplets of an operator, for factor_batch.
  template <class Op, class T>
  void run(cuda& be, Op const& op, triplet_slabs<T, device_space> out, slab_view<int, device_space> flags,
           caution how) const {
    if (op.rows() < op.cols()) return run(be, op.transposed(), out.transposed(), flags, how);
    bool const approximate = driver == cusolver_driver::gesvda || driver == cusolver_driver::gesvdr;
    scratch<cuda> temporary(be);
    auto const info = temporary.matrix<int>(1, op.count());
    triplet_slabs<T, device_space> raw = out;
    if (approximate) {
      raw.u = temporary.slab<T>(op.count(), op.rows(), out.s.rows);
      raw.v = temporary.slab<T>(op.count(), op.cols(), out.s.rows);
    }
    if (driver == cusolver_driver::gesvda) {
      batched(be, op, raw, info);
    } else {
      for (index_t b = 0; b < op.count(); ++b) {
        scratch<cuda> one(be);
        auto const a = one.matrix<T>(op.rows(), op.cols());
        axpby(be, op.scale, op.a[b], 0.0, a);
        factor<T>(be, a, raw.matrices(b, 1), info.data + b);
      }
    }
    be.for_each(1, op.count(), gpu::note_failure{info, gpu::flag_row(flags)});
    if (approximate) {  // their vectors are orthonormal to what their method leaves
      orthonormal_pass(be, raw.u, out.u, repeated_pass(), how, {0, 1}, flags);
      orthonormal_pass(be, raw.v, out.v, repeated_pass(), how, {0, 2}, flags);
    }
  }

 private:
  template <class T>
  using view = matrix_view<T, device_space>;

  template <class T>
  void factor(cuda& be, view<T> a, triplet_slabs<T, device_space> out, int* info) const {
    constexpr auto type = gpu::data_type<T>;
    index_t const m = a.rows, n = a.cols, k = out.s.rows;
    cusolverDnHandle_t const h = be.solver();
    auto const p = be.solver_parameters();
    // gesvdr promises k columns; room for all of them, because its documentation is not clear that it writes no more
    scratch<cuda> temporary(be);
    auto const u = temporary.matrix<T>(m, n), s = temporary.matrix<T>(n, 1), v = temporary.matrix<T>(n, n);
    if (driver == cusolver_driver::gesvd) {
      gpu::with_buffers(
          be, "cusolverDnXgesvd",
          [&](auto* d, auto* on_host) {
            return cusolverDnXgesvd_bufferSize(h, p, 'S', 'S', m, n, type, a.data, m, type, s.data, type, u.data, m,
                                               type, v.data, n, type, d, on_host);
          },
          [&](void* d, std::size_t db, void* w, std::size_t wb) {
            return cusolverDnXgesvd(h, p, 'S', 'S', m, n, type, a.data, m, type, s.data, type, u.data, m, type, v.data,
                                    n, type, d, db, w, wb, info);
          });
    } else if (driver == cusolver_driver::gesvdp) {
      double distance = 0;  // of the matrix that was factored from a; made tiny by cuSOLVER where it must be
      gpu::with_buffers(
          be, "cusolverDnXgesvdp",
          [&](auto* d, auto* on_host) {
            return cusolverDnXgesvdp_bufferSize(h, p, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, type, a.data, m, type, s.data,
                                                type, u.data, m, type, v.data, n, type, d, on_host);
          },
          [&](void* d, std::size_t db, void* w, std::size_t wb) {
            return cusolverDnXgesvdp(h, p, CUSOLVER_EIG_MODE_VECTOR, 1, m, n, type, a.data, m, type, s.data, type,
                                     u.data, m, type, v.data, n, type, d, db, w, wb, info, &distance);
          });
      be.synchronize();  // `distance` lives no longer
    } else if (driver == cusolver_driver::gesvdr) {
      index_t const extra = std::clamp<index_t>(oversampling ? oversampling : k, 1, n - 1 - k);
      gpu::with_buffers(
          be, "cusolverDnXgesvdr",
          [&](auto* d, auto* on_host) {
            return cusolverDnXgesvdr_bufferSize(h, p, 'S', 'S', m, n, k, extra, iterations, type, a.data, m, type,
                                                s.data, type, u.data, m, type, v.data, n, type, d, on_host);
          },
          [&](void* d, std::size_t db, void* w, std::size_t wb) {
            return cusolverDnXgesvdr(h, p, 'S', 'S', m, n, k, extra, iterations, type, a.data, m, type, s.data, type,
                                     u.data, m, type, v.data, n, type, d, db, w, wb, info);
          });
    } else {
      jacobi(be, a, u, s, v, info);
    }
    bool const transposed = driver == cusolver_driver::gesvd;  // that one gives VT
    be.copy(u.columns(0, k), out.u[0]);
    be.copy(s.row_range(0, k), out.s[0]);
    be.copy((transposed ? v.transposed() : v).columns(0, k), out.v[0]);
  }

  template <class T>
  static void jacobi(cuda& be, view<T> a, view<T> u, view<T> s, view<T> v, int* info) {
    gpu::jacobi_info const settings;
    int length = 0;
    auto const m = static_cast<int>(a.rows), n = static_cast<int>(a.cols);
    gpu::check(gpu::by_type<T>(cusolverDnSgesvdj_bufferSize, cusolverDnDgesvdj_bufferSize)(
                   be.solver(), CUSOLVER_EIG_MODE_VECTOR, 1, m, n, a.data, m, s.data, u.data, m, v.data, n, &length,
                   settings.get()),
               "cusolverDnXgesvdj_bufferSize");
    scratch<cuda> temporary(be);
    auto const work = temporary.matrix<T>(length, 1);
    gpu::check(gpu::by_type<T>(cusolverDnSgesvdj, cusolverDnDgesvdj)(be.solver(), CUSOLVER_EIG_MODE_VECTOR, 1, m, n,
                                                                     a.data, m, s.data, u.data, m, v.data, n, work.data,
                                                                     length, info, settings.get()),
               "cusolverDnXgesvdj");
    be.synchronize();  // before `settings` goes
  }

  template <class Op, class T>
  static void batched(cuda& be, Op const& op, triplet_slabs<T, device_space> out, view<int> info) {
    auto const m = static_cast<int>(op.rows()), n = static_cast<int>(op.cols()), k = static_cast<int>(out.s.rows),
               count = static_cast<int>(op.count());
    scratch<cuda> temporary(be);
    auto const a = temporary.slab<T>(count, m, n);
    for (index_t b = 0; b < count; ++b) axpby(be, op.scale, op.a[b], 0.0, a[b]);
    int length = 0;
    gpu::check(
        gpu::by_type<T>(cusolverDnSgesvdaStridedBatched_bufferSize, cusolverDnDgesvdaStridedBatched_bufferSize)(
            be.solver(), CUSOLVER_EIG_MODE_VECTOR, k, m, n, a.data, m, a.batch_stride, out.s.data, out.s.batch_stride,
            out.u.data, m, out.u.batch_stride, out.v.data, n, out.v.batch_stride, &length, count),
        "cusolverDnXgesvdaStridedBatched_bufferSize");
    auto const work = temporary.matrix<T>(length, 1);
    std::vector<double> residual(static_cast<std::size_t>(count));
    gpu::check(gpu::by_type<T>(cusolverDnSgesvdaStridedBatched, cusolverDnDgesvdaStridedBatched)(
                   be.solver(), CUSOLVER_EIG_MODE_VECTOR, k, m, n, a.data, m, a.batch_stride, out.s.data,
                   out.s.batch_stride, out.u.data, m, out.u.batch_stride, out.v.data, n, out.v.batch_stride, work.data,
                   length, info.data, residual.data(), count),
               "cusolverDnXgesvdaStridedBatched");
    be.synchronize();  // before `residual` goes
  }
};

}  // namespace loraga
