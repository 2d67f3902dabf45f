#include "cusolver_svd.hpp"

using namespace device_double;

// Jacobi's method for one matrix, and the approximate driver for batches of tall ones.

namespace {

template <class T>
cusolverStatus_t gesvdj(cusolverDnHandle_t handle, char const* function, cusolverEigMode_t jobz, int econ, int m, int n,
                        T* a, int lda, T* s, T* u, int ldu, T* v, int ldv, T* device, int length, int* info,
                        gesvdjInfo_t params) {
  return run(handle, function, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
    if (econ != 1) return CUSOLVER_STATUS_NOT_SUPPORTED;
    bool const vectors = jobz == CUSOLVER_EIG_MODE_VECTOR;
    workspace const work{device, static_cast<std::size_t>(std::max(length, 0)) * sizeof(T)};
    return one<T>(handle->stream, a, m, n, lda, std::min(m, n), {s, u, v, ldu, ldv, vectors, vectors}, work, 0, info);
  });
}
cusolverStatus_t gesvdj_room(cusolverDnHandle_t handle, char const* function, int m, int n, int lda, int* length,
                             gesvdjInfo_t params) {
  return run(handle, function, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
    return *length = static_cast<int>(device_room(m, n, 1)), CUSOLVER_STATUS_SUCCESS;
  });
}

/// A batch of tall matrices at fixed distances, in elements.
template <class T>
struct tall_batch {
  bool vectors;
  int rank, m, n;
  T const* a;
  int lda;
  long long a_stride;
  T* s;
  long long s_stride;
  T* u;
  int ldu;
  long long u_stride;
  T* v;
  int ldv;
  long long v_stride;
  int count;

  bool valid() const {
    return count >= 0 && shape_good(m, n, lda) && m >= n && rank >= 1 && rank <= n && out(0).valid(m, n, rank);
  }
  std::size_t room() const { return device_room(m, int64_t{n} * count, 1); }
  factors<T> out(int i) const {
    return {
        s + i * s_stride, vectors ? u + i * u_stride : nullptr, vectors ? v + i * v_stride : nullptr, ldu, ldv, vectors,
        vectors};
  }
  operands used() const {
    operands all;
    for (int i = 0; i < count; ++i) {
      all.reads({"A", a + i * a_stride, m, n, lda, sizeof(T)});
      out(i).add_to(all, m, n, rank);
    }
    return all;
  }
  /// Frobenius norm of what member i's factors leave.
  double residual(int i) const {
    factors<T> const f = out(i);
    matrix<T> const left = view(f.u, m, rank, ldu) * view(f.s, rank, 1, rank).col(0).asDiagonal();
    matrix<T> const rest = view(a + i * a_stride, m, n, lda) - left * view(f.v, n, rank, ldv).transpose();
    return static_cast<double>(rest.norm());
  }
};
template <class T>
cusolverStatus_t gesvda(cusolverDnHandle_t handle, char const* function, tall_batch<T> const& b, T* device, int length,
                        int* info, double* residuals) {
  return run(handle, function, [&] {
    if (!b.valid() || length < static_cast<int>(b.room())) return CUSOLVER_STATUS_INVALID_VALUE;
    workspace const work{device, static_cast<std::size_t>(length) * sizeof(T)};
    operands all = b.used();
    all.writes({"info", info, b.count, 1, b.count, sizeof(int)});
    work.add_to(all);
    if (!all.good()) return CUSOLVER_STATUS_EXECUTION_FAILED;
    if (residuals != nullptr && touches_device(residuals, sizeof(double) * static_cast<std::size_t>(b.count)))
      return complain("h_R_nrmF is not in host memory"), CUSOLVER_STATUS_EXECUTION_FAILED;
    hand_over(handle->stream, all, [=, asked = asked_info()] {
      work.use();
      for (int i = 0; i < b.count; ++i) {
        decompose<T>(b.a + i * b.a_stride, b.m, b.n, b.lda, b.rank, b.out(i));
        info[i] = i == 0 ? asked.value_or(0) : 0;
        if (residuals != nullptr && b.vectors) residuals[i] = b.residual(i);
      }
    });
    return CUSOLVER_STATUS_SUCCESS;
  });
}
template <class T>
cusolverStatus_t gesvda_room(cusolverDnHandle_t handle, char const* function, tall_batch<T> const& b, int* length) {
  return run(handle, function, [&] {
    if (!b.valid()) return CUSOLVER_STATUS_INVALID_VALUE;
    return *length = static_cast<int>(b.room()), CUSOLVER_STATUS_SUCCESS;
  });
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnSgesvdj_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t, int, int m, int n,
                                              float const*, int lda, float const*, float const*, int, float const*, int,
                                              int* length, gesvdjInfo_t params) {
  return gesvdj_room(handle, __func__, m, n, lda, length, params);
}
cusolverStatus_t cusolverDnDgesvdj_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t, int, int m, int n,
                                              double const*, int lda, double const*, double const*, int, double const*,
                                              int, int* length, gesvdjInfo_t params) {
  return gesvdj_room(handle, __func__, m, n, lda, length, params);
}
cusolverStatus_t cusolverDnSgesvdj(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int econ, int m, int n, float* a,
                                   int lda, float* s, float* u, int ldu, float* v, int ldv, float* work, int length,
                                   int* info, gesvdjInfo_t params) {
  return gesvdj(handle, __func__, jobz, econ, m, n, a, lda, s, u, ldu, v, ldv, work, length, info, params);
}
cusolverStatus_t cusolverDnDgesvdj(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int econ, int m, int n, double* a,
                                   int lda, double* s, double* u, int ldu, double* v, int ldv, double* work, int length,
                                   int* info, gesvdjInfo_t params) {
  return gesvdj(handle, __func__, jobz, econ, m, n, a, lda, s, u, ldu, v, ldv, work, length, info, params);
}

cusolverStatus_t cusolverDnSgesvdaStridedBatched_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int rank,
                                                            int m, int n, float const* a, int lda, long long a_stride,
                                                            float const*, long long s_stride, float const*, int ldu,
                                                            long long u_stride, float const*, int ldv,
                                                            long long v_stride, int* length, int count) {
  return gesvda_room<float>(handle, __func__,
                            {jobz == CUSOLVER_EIG_MODE_VECTOR, rank, m, n, a, lda, a_stride, nullptr, s_stride, nullptr,
                             ldu, u_stride, nullptr, ldv, v_stride, count},
                            length);
}
cusolverStatus_t cusolverDnDgesvdaStridedBatched_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int rank,
                                                            int m, int n, double const* a, int lda, long long a_stride,
                                                            double const*, long long s_stride, double const*, int ldu,
                                                            long long u_stride, double const*, int ldv,
                                                            long long v_stride, int* length, int count) {
  return gesvda_room<double>(handle, __func__,
                             {jobz == CUSOLVER_EIG_MODE_VECTOR, rank, m, n, a, lda, a_stride, nullptr, s_stride,
                              nullptr, ldu, u_stride, nullptr, ldv, v_stride, count},
                             length);
}
cusolverStatus_t cusolverDnSgesvdaStridedBatched(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int rank, int m,
                                                 int n, float const* a, int lda, long long a_stride, float* s,
                                                 long long s_stride, float* u, int ldu, long long u_stride, float* v,
                                                 int ldv, long long v_stride, float* work, int length, int* info,
                                                 double* residuals, int count) {
  return gesvda<float>(handle, __func__,
                       {jobz == CUSOLVER_EIG_MODE_VECTOR, rank, m, n, a, lda, a_stride, s, s_stride, u, ldu, u_stride,
                        v, ldv, v_stride, count},
                       work, length, info, residuals);
}
cusolverStatus_t cusolverDnDgesvdaStridedBatched(cusolverDnHandle_t handle, cusolverEigMode_t jobz, int rank, int m,
                                                 int n, double const* a, int lda, long long a_stride, double* s,
                                                 long long s_stride, double* u, int ldu, long long u_stride, double* v,
                                                 int ldv, long long v_stride, double* work, int length, int* info,
                                                 double* residuals, int count) {
  return gesvda<double>(handle, __func__,
                        {jobz == CUSOLVER_EIG_MODE_VECTOR, rank, m, n, a, lda, a_stride, s, s_stride, u, ldu, u_stride,
                         v, ldv, v_stride, count},
                        work, length, info, residuals);
}

}  // extern "C"
