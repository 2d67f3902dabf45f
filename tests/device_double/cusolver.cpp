#include "cusolver_common.hpp"

using namespace device_double;

namespace {

cusolverStatus_t made(char const* function, auto** out) {
  if (int const asked = enter(function); asked != 0) return library_failed(), static_cast<cusolverStatus_t>(asked);
  using H = std::remove_reference_t<decltype(**out)>;
  return *out = create<H>(), CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t destroyed(char const* function, void const* handle) {
  if (int const asked = enter(function); asked != 0) return library_failed(), static_cast<cusolverStatus_t>(asked);
  if (destroy(handle)) return CUSOLVER_STATUS_SUCCESS;
  return complain("the handle is not alive"), CUSOLVER_STATUS_NOT_INITIALIZED;
}
strided ints(char const* name, void const* p, int64_t n) { return {name, p, n, 1, n, sizeof(int)}; }

/// a = rT*r in place, r upper; LAPACK's info: the order of the first leading minor that is not positive, or 0.
/// Works on the lower factor as well, of which a is then the transposed view.
template <class M>
int cholesky(M a) {
  Eigen::Index const n = a.rows();
  for (Eigen::Index j = 0; j < n; ++j) {
    double const pivot = a(j, j) - a.col(j).head(j).squaredNorm();
    if (!(pivot > 0)) return static_cast<int>(j) + 1;
    a(j, j) = std::sqrt(pivot);
    for (Eigen::Index i = j + 1; i < n; ++i) a(j, i) = (a(j, i) - a.col(j).head(j).dot(a.col(i).head(j))) / a(j, j);
  }
  return 0;
}
/// cuSOLVER documents the other triangle as destroyed.
int potrf(cublasFillMode_t uplo, double* p, int64_t n, int64_t ld) {
  auto a = view(p, n, n, ld);
  if (uplo == CUBLAS_FILL_MODE_UPPER) {
    a.triangularView<Eigen::StrictlyLower>().setConstant(not_a_number<double>);
    return cholesky(a);
  }
  a.triangularView<Eigen::StrictlyUpper>().setConstant(not_a_number<double>);
  using turned = Eigen::Map<matrix<double>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  return cholesky(turned(p, n, n, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(1, ld)));
}

/// Values ascending into w, vectors or, if none are asked for, NaN into a.
template <class T>
int syev(bool vectors, cublasFillMode_t uplo, T* p, int64_t n, int64_t ld, T* w) {
  auto a = view(p, n, n, ld);
  matrix<T> lower = matrix<T>::Zero(n, n);  // Eigen reads this triangle only
  if (uplo == CUBLAS_FILL_MODE_LOWER) lower.template triangularView<Eigen::Lower>() = a;
  else lower.template triangularView<Eigen::Lower>() = a.transpose();
  a.setConstant(not_a_number<T>);
  view(w, n, 1, n).setConstant(not_a_number<T>);
  if (!lower.allFinite()) return 0;  // as a GPU may: the results say it, not the info
  Eigen::SelfAdjointEigenSolver<matrix<T>> const found(lower);
  view(w, n, 1, n) = found.eigenvalues();
  if (vectors) a = found.eigenvectors();
  return found.info() == Eigen::Success ? 0 : 1;
}

/// NVIDIA names no limit. Batched solvers of other makers end where the bytes no longer fit an int, or a grid's third
/// dimension ends: this one stops before.
bool batch_fits(int64_t n, std::size_t element, int64_t count) {
  double const bytes = static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(element);
  if (count <= 16384 && bytes * static_cast<double>(count) <= 2147483647.0) return true;
  return complain("a batch of 2 GB, or of more than 16384 matrices"), false;
}

template <class T>
cusolverStatus_t syev_batched(cudaStream_t stream, bool vectors, cublasFillMode_t uplo, int64_t n, T* a, int64_t lda,
                              T* w, workspace const& work, int* info, int64_t count) {
  if (n < 0 || count < 0 || !leading_is(lda, n) || !batch_fits(n, sizeof(T), count))
    return CUSOLVER_STATUS_INVALID_VALUE;
  if (!work.holds(device_room(n, n * count, sizeof(T)), host_room)) return CUSOLVER_STATUS_INVALID_VALUE;
  operands all;
  for (int64_t i = 0; i < count; ++i) all.writes({"A", a + i * lda * n, n, n, lda, sizeof(T)});
  all.writes({"W", w, n, count, n, sizeof(T)});
  all.writes(ints("info", info, count));
  work.add_to(all);
  if (!all.good() || !work.host_good()) return CUSOLVER_STATUS_EXECUTION_FAILED;
  hand_over(stream, all, [=, asked = asked_info()] {
    work.use();
    for (int64_t i = 0; i < count; ++i) {
      int const found = syev(vectors, uplo, a + i * lda * n, n, lda, w + i * n);
      info[i] = i == 0 ? asked.value_or(found) : found;
      if (info[i] != 0) view(a + i * lda * n, n, n, lda).setConstant(not_a_number<T>);  // as a solver may that gave up
    }
  });
  return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) { return made(__func__, handle); }
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) { return destroyed(__func__, handle); }
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) { return made(__func__, params); }
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) { return destroyed(__func__, params); }
cusolverStatus_t cusolverDnCreateGesvdjInfo(gesvdjInfo_t* info) { return made(__func__, info); }
cusolverStatus_t cusolverDnDestroyGesvdjInfo(gesvdjInfo_t info) { return destroyed(__func__, info); }

cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  if (int const asked = enter(__func__); asked != 0) return library_failed(), static_cast<cusolverStatus_t>(asked);
  if (!alive(handle)) return complain("the handle is not alive"), CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!stream_alive(stream)) return complain("the stream is not alive"), CUSOLVER_STATUS_INVALID_VALUE;
  return handle->stream = stream, CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnGetStream(cusolverDnHandle_t handle, cudaStream_t* stream) {
  return run(handle, __func__, [&] { return *stream = handle->stream, CUSOLVER_STATUS_SUCCESS; });
}
cusolverStatus_t cusolverDnSetDeterministicMode(cusolverDnHandle_t handle, cusolverDeterministicMode_t) {
  return run(handle, __func__, [] { return CUSOLVER_STATUS_SUCCESS; });
}

cusolverStatus_t cusolverDnDpotrfBatched(cusolverDnHandle_t handle, cublasFillMode_t uplo, int n, double* a[], int lda,
                                         int* info, int count) {
  return run(handle, __func__, [&] {
    if (n < 0 || count < 0 || !leading_is(lda, n) || uplo == CUBLAS_FILL_MODE_FULL)
      return CUSOLVER_STATUS_INVALID_VALUE;
    operands lists;
    lists.reads({"Aarray", a, count, 1, count, sizeof(double*)});
    lists.writes(ints("infoArray", info, count));
    if (!lists.good()) return CUSOLVER_STATUS_EXECUTION_FAILED;
    auto const members = [=] {
      operands all;
      for (int i = 0; i < count; ++i) all.writes({"A", a[i], n, n, lda, sizeof(double)});
      return all;
    };
    auto const work = [=, asked = asked_info()] {
      for (int i = 0; i < count; ++i) {
        int const found = potrf(uplo, a[i], n, lda);
        info[i] = i == 0 ? asked.value_or(found) : found;
      }
    };
    bool const good = hand_over_listed(handle->stream, members, work);
    return good ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_EXECUTION_FAILED;
  });
}

cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t handle, cusolverDnParams_t params,
                                                   cusolverEigMode_t, cublasFillMode_t, int64_t n, cudaDataType a_type,
                                                   void const*, int64_t lda, cudaDataType w_type, void const*,
                                                   cudaDataType compute, std::size_t* device_bytes,
                                                   std::size_t* host_bytes, int64_t count) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    if (n < 0 || count < 0 || !leading_is(lda, n)) return CUSOLVER_STATUS_INVALID_VALUE;
    return with_type({a_type, w_type, compute}, [&](auto t) {
      *device_bytes = device_room(n, n * count, sizeof t);
      *host_bytes = host_room;
      return CUSOLVER_STATUS_SUCCESS;
    });
  });
}
cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t handle, cusolverDnParams_t params, cusolverEigMode_t jobz,
                                        cublasFillMode_t uplo, int64_t n, cudaDataType a_type, void* a, int64_t lda,
                                        cudaDataType w_type, void* w, cudaDataType compute, void* device,
                                        std::size_t device_bytes, void* host, std::size_t host_bytes, int* info,
                                        int64_t count) {
  return run(handle, __func__, [&] {
    if (!parameters_alive(params)) return CUSOLVER_STATUS_NOT_INITIALIZED;
    return with_type({a_type, w_type, compute}, [&](auto t) {
      using T = decltype(t);
      return syev_batched(handle->stream, jobz == CUSOLVER_EIG_MODE_VECTOR, uplo, n, static_cast<T*>(a), lda,
                          static_cast<T*>(w), {device, device_bytes, host, host_bytes}, info, count);
    });
  });
}

}  // extern "C"
