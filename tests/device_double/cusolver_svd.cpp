#include "cusolver_svd.hpp"

using namespace device_double;

template <class T>
void device_double::decompose(T const* p, int64_t m, int64_t n, int64_t lda, int64_t k, factors<T> const& out) {
  if (k == 0) return;
  matrix<T> const a = view(p, m, n, lda);
  matrix<T> u = matrix<T>::Constant(m, k, not_a_number<T>), v = matrix<T>::Constant(n, k, not_a_number<T>);
  matrix<T> s = matrix<T>::Constant(k, 1, not_a_number<T>);
  if (a.allFinite()) {
    Eigen::JacobiSVD<matrix<T>> const found(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
    s = found.singularValues().head(k);
    u = found.matrixU().leftCols(k);
    v = found.matrixV().leftCols(k);
  }
  view(out.s, k, 1, k) = s;
  if (out.with_u) view(out.u, m, k, out.ldu) = u;
  if (!out.with_v) return;
  if (out.v_transposed) view(out.v, k, n, out.ldv) = v.transpose();
  else view(out.v, n, k, out.ldv) = v;
}
template void device_double::decompose(float const*, int64_t, int64_t, int64_t, int64_t, factors<float> const&);
template void device_double::decompose(double const*, int64_t, int64_t, int64_t, int64_t, factors<double> const&);

namespace {

bool job_known(signed char job) {
  if (job == 'S' || job == 'N') return true;
  return complain("the double only knows the jobs S and N"), false;
}

cusolverStatus_t room(std::initializer_list<cudaDataType> types, int64_t m, int64_t n, std::size_t* device_bytes,
                      std::size_t* host_bytes) {
  return with_type(types, [&](auto t) {
    *device_bytes = device_room(m, n, sizeof t);
    *host_bytes = host_room;
    return CUSOLVER_STATUS_SUCCESS;
  });
}
bool rank_good(int64_t m, int64_t n, int64_t k, int64_t p, int64_t iterations) {
  return k >= 1 && p >= 0 && iterations >= 0 && k + p <= std::min(m, n);
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnXgesvd_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                             signed char jobvt, int64_t m, int64_t n, cudaDataType a_type, void const*,
                                             int64_t lda, cudaDataType s_type, void const*, cudaDataType u_type,
                                             void const*, int64_t, cudaDataType v_type, void const*, int64_t,
                                             cudaDataType compute, std::size_t* device_bytes, std::size_t* host_bytes) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda) || m < n) return CUSOLVER_STATUS_INVALID_VALUE;
    if (!job_known(jobu) || !job_known(jobvt)) return CUSOLVER_STATUS_NOT_SUPPORTED;
    return room({a_type, s_type, u_type, v_type, compute}, m, n, device_bytes, host_bytes);
  });
}
cusolverStatus_t cusolverDnXgesvd(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                  signed char jobvt, int64_t m, int64_t n, cudaDataType a_type, void* a, int64_t lda,
                                  cudaDataType s_type, void* s, cudaDataType u_type, void* u, int64_t ldu,
                                  cudaDataType v_type, void* vt, int64_t ldvt, cudaDataType compute, void* device,
                                  std::size_t device_bytes, void* host, std::size_t host_bytes, int* info) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda) || m < n) return CUSOLVER_STATUS_INVALID_VALUE;
    if (!job_known(jobu) || !job_known(jobvt)) return CUSOLVER_STATUS_NOT_SUPPORTED;
    return with_type({a_type, s_type, u_type, v_type, compute}, [&](auto t) {
      using T = decltype(t);
      factors<T> const out{
          static_cast<T*>(s), static_cast<T*>(u), static_cast<T*>(vt), ldu, ldvt, jobu == 'S', jobvt == 'S', true};
      return one(handle->stream, static_cast<T*>(a), m, n, lda, n, out, {device, device_bytes, host, host_bytes},
                 host_room, info);
    });
  });
}

cusolverStatus_t cusolverDnXgesvdp_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t,
                                              int econ, int64_t m, int64_t n, cudaDataType a_type, void const*,
                                              int64_t lda, cudaDataType s_type, void const*, cudaDataType u_type,
                                              void const*, int64_t, cudaDataType v_type, void const*, int64_t,
                                              cudaDataType compute, std::size_t* device_bytes,
                                              std::size_t* host_bytes) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda)) return CUSOLVER_STATUS_INVALID_VALUE;
    if (econ != 1) return CUSOLVER_STATUS_NOT_SUPPORTED;
    return room({a_type, s_type, u_type, v_type, compute}, m, n, device_bytes, host_bytes);
  });
}
cusolverStatus_t cusolverDnXgesvdp(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t jobz,
                                   int econ, int64_t m, int64_t n, cudaDataType a_type, void* a, int64_t lda,
                                   cudaDataType s_type, void* s, cudaDataType u_type, void* u, int64_t ldu,
                                   cudaDataType v_type, void* v, int64_t ldv, cudaDataType compute, void* device,
                                   std::size_t device_bytes, void* host, std::size_t host_bytes, int* info,
                                   double* perturbation) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda) || perturbation == nullptr) return CUSOLVER_STATUS_INVALID_VALUE;
    if (econ != 1) return CUSOLVER_STATUS_NOT_SUPPORTED;
    if (touches_device(perturbation, sizeof(double)))
      return complain("h_err_sigma is not in host memory"), CUSOLVER_STATUS_EXECUTION_FAILED;
    hand_over(handle->stream, [=] { *perturbation = 0; });
    bool const vectors = jobz == CUSOLVER_EIG_MODE_VECTOR;
    return with_type({a_type, s_type, u_type, v_type, compute}, [&](auto t) {
      using T = decltype(t);
      factors<T> const out{static_cast<T*>(s), static_cast<T*>(u), static_cast<T*>(v), ldu, ldv, vectors, vectors};
      return one(handle->stream, static_cast<T*>(a), m, n, lda, std::min(m, n), out,
                 {device, device_bytes, host, host_bytes}, host_room, info);
    });
  });
}

cusolverStatus_t cusolverDnXgesvdr_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                              signed char jobv, int64_t m, int64_t n, int64_t k, int64_t p,
                                              int64_t iterations, cudaDataType a_type, void const*, int64_t lda,
                                              cudaDataType s_type, void const*, cudaDataType u_type, void const*,
                                              int64_t, cudaDataType v_type, void const*, int64_t, cudaDataType compute,
                                              std::size_t* device_bytes, std::size_t* host_bytes) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda) || !rank_good(m, n, k, p, iterations)) return CUSOLVER_STATUS_INVALID_VALUE;
    if (!job_known(jobu) || !job_known(jobv)) return CUSOLVER_STATUS_NOT_SUPPORTED;
    return room({a_type, s_type, u_type, v_type, compute}, m, n, device_bytes, host_bytes);
  });
}
cusolverStatus_t cusolverDnXgesvdr(cusolverDnHandle_t handle, cusolverDnParams_t params, signed char jobu,
                                   signed char jobv, int64_t m, int64_t n, int64_t k, int64_t p, int64_t iterations,
                                   cudaDataType a_type, void* a, int64_t lda, cudaDataType s_type, void* s,
                                   cudaDataType u_type, void* u, int64_t ldu, cudaDataType v_type, void* v, int64_t ldv,
                                   cudaDataType compute, void* device, std::size_t device_bytes, void* host,
                                   std::size_t host_bytes, int* info) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (!shape_good(m, n, lda) || !rank_good(m, n, k, p, iterations)) return CUSOLVER_STATUS_INVALID_VALUE;
    if (!job_known(jobu) || !job_known(jobv)) return CUSOLVER_STATUS_NOT_SUPPORTED;
    return with_type({a_type, s_type, u_type, v_type, compute}, [&](auto t) {
      using T = decltype(t);
      factors<T> const out{static_cast<T*>(s), static_cast<T*>(u), static_cast<T*>(v), ldu, ldv,
                           jobu == 'S',        jobv == 'S'};
      return one(handle->stream, static_cast<T*>(a), m, n, lda, k, out, {device, device_bytes, host, host_bytes},
                 host_room, info);
    });
  });
}

}  // extern "C"
