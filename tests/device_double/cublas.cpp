#include "cublas_common.hpp"

using namespace device_double;

namespace {

/// The triangle of a that counts, with ones or its own diagonal, and zeros beyond.
matrix<double> triangle(cublasFillMode_t uplo, cublasDiagType_t diag, double const* a, int64_t n, int64_t ld) {
  matrix<double> t = matrix<double>::Zero(n, n);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i)
      if (uplo == CUBLAS_FILL_MODE_UPPER ? i <= j : i >= j)
        t(i, j) = i == j && diag == CUBLAS_DIAG_UNIT ? 1 : a[i + j * ld];
  return t;
}

/// b = alpha*inv(op(t))*b, or from the right.
void solve(matrix<double> t, bool upper, bool transposed, bool left, double alpha, double* b, int64_t rows,
           int64_t cols, int64_t ld) {
  matrix<double> x = alpha * view<double>(b, rows, cols, ld);
  if (!left) x.transposeInPlace();
  if (transposed == left) {  // a right side is the transposed system
    t.transposeInPlace();
    upper = !upper;
  }
  if (upper) t.triangularView<Eigen::Upper>().solveInPlace(x);
  else t.triangularView<Eigen::Lower>().solveInPlace(x);
  if (!left) x.transposeInPlace();
  Eigen::Map<matrix<double>, 0, Eigen::OuterStride<>>(b, rows, cols, Eigen::OuterStride<>(ld)) = x;
}

/// One triangle of c = alpha*x*xT + beta*c, x being a or its transposed.
void rank_k(cublasFillMode_t uplo, bool plain, int64_t n, int64_t k, double alpha, double const* a, int64_t lda,
            double beta, double* c, int64_t ldc) {
  matrix<double> sum = matrix<double>::Zero(n, n);
  if (n > 0 && k > 0) {
    auto const x = view<double>(a, plain ? n : k, plain ? k : n, lda);
    if (plain) sum.noalias() = x * x.transpose();
    else sum.noalias() = x.transpose() * x;
  }
  for (int64_t j = 0; j < n; ++j)
    for (int64_t i = 0; i < n; ++i) {
      if (uplo == CUBLAS_FILL_MODE_UPPER ? i > j : i < j) continue;
      double& at = c[i + j * ldc];
      at = alpha * sum(i, j) + (beta == 0 ? 0.0 : beta * at);
    }
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  if (int const asked = enter(__func__); asked != 0) return library_failed(), static_cast<cublasStatus_t>(asked);
  return *handle = create<cublasContext>(), CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  return run(handle, __func__, [&] { return finish_all(), destroy(handle), CUBLAS_STATUS_SUCCESS; });
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  return run(handle, __func__, [&] {
    if (!stream_alive(stream)) return complain("the stream is not alive"), CUBLAS_STATUS_INVALID_VALUE;
    handle->stream = stream;
    handle->workspace = nullptr;  // as the real one: back to its own
    return CUBLAS_STATUS_SUCCESS;
  });
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t handle, cudaStream_t* stream) {
  return run(handle, __func__, [&] { return *stream = handle->stream, CUBLAS_STATUS_SUCCESS; });
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* p, std::size_t bytes) {
  return run(handle, __func__, [&] {
    bool const aligned = reinterpret_cast<std::uintptr_t>(p) % 256 == 0;
    if (bytes > 0 && (!aligned || !inside(where::device, p, bytes)))
      return complain("the workspace is not aligned device memory"), CUBLAS_STATUS_INVALID_VALUE;
    handle->workspace = bytes > 0 ? p : nullptr;
    handle->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
  });
}
cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  return run(handle, __func__, [&] { return handle->math = mode, CUBLAS_STATUS_SUCCESS; });
}
cublasStatus_t cublasGetMathMode(cublasHandle_t handle, cublasMath_t* mode) {
  return run(handle, __func__, [&] { return *mode = handle->math, CUBLAS_STATUS_SUCCESS; });
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  return run(handle, __func__, [&] { return handle->pointers = mode, CUBLAS_STATUS_SUCCESS; });
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  return run(handle, __func__, [&] { return *mode = handle->pointers, CUBLAS_STATUS_SUCCESS; });
}
char const* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "the operation completed successfully";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "an internal operation failed";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the functionality requested is not supported";
    default:
      return "unknown cublas status";
  }
}

cublasStatus_t cublasDtrsmBatched_64(cublasHandle_t handle, cublasSideMode_t side, cublasFillMode_t uplo,
                                     cublasOperation_t op, cublasDiagType_t diag, int64_t m, int64_t n,
                                     double const* alpha, double const* const a[], int64_t lda, double* const b[],
                                     int64_t ldb, int64_t count) {
  return run(handle, __func__, [&] {
    bool const left = side == CUBLAS_SIDE_LEFT;
    int64_t const order = left ? m : n;
    if (m < 0 || n < 0 || count < 0 || lda < std::max<int64_t>(1, order) || ldb < std::max<int64_t>(1, m) ||
        alpha == nullptr || uplo == CUBLAS_FILL_MODE_FULL)
      return CUBLAS_STATUS_INVALID_VALUE;
    auto const scale = scalar<double>(handle, alpha);
    if (!scale || !ready(handle) || !is_list("Aarray", a, count) || !is_list("Barray", b, count))
      return CUBLAS_STATUS_EXECUTION_FAILED;
    auto const members = [=] {
      operands all;
      for (int64_t i = 0; i < count; ++i) {
        all.reads({"A", a[i], order, order, lda, sizeof(double)});
        all.writes({"B", b[i], m, n, ldb, sizeof(double)});
      }
      return all;
    };
    auto const work = [=, factor = *scale] {
      for (int64_t i = 0; i < count && m > 0 && n > 0; ++i)
        solve(triangle(uplo, diag, a[i], order, lda), uplo == CUBLAS_FILL_MODE_UPPER, op != CUBLAS_OP_N, left, factor,
              b[i], m, n, ldb);
    };
    if (!hand_over_listed(handle->stream, members, work)) return CUBLAS_STATUS_EXECUTION_FAILED;
    return device_double::count({.products = 1}), CUBLAS_STATUS_SUCCESS;
  });
}
cublasStatus_t cublasDsyrk_v2_64(cublasHandle_t handle, cublasFillMode_t uplo, cublasOperation_t op, int64_t n,
                                 int64_t k, double const* alpha, double const* a, int64_t lda, double const* beta,
                                 double* c, int64_t ldc) {
  return run(handle, __func__, [&] {
    bool const plain = op == CUBLAS_OP_N;
    if (n < 0 || k < 0 || lda < std::max<int64_t>(1, plain ? n : k) || ldc < std::max<int64_t>(1, n) ||
        alpha == nullptr || beta == nullptr || uplo == CUBLAS_FILL_MODE_FULL)
      return CUBLAS_STATUS_INVALID_VALUE;
    auto const al = scalar<double>(handle, alpha), be = scalar<double>(handle, beta);
    operands all;
    all.reads({"A", a, plain ? n : k, plain ? k : n, lda, sizeof(double)});
    all.writes({"C", c, n, n, ldc, sizeof(double)});
    if (!al || !be || !ready(handle) || !all.good()) return CUBLAS_STATUS_EXECUTION_FAILED;
    device_double::count({.products = 1});
    hand_over(handle->stream, all, [=, al = *al, be = *be] { rank_k(uplo, plain, n, k, al, a, lda, be, c, ldc); });
    return CUBLAS_STATUS_SUCCESS;
  });
}

}  // extern "C"
