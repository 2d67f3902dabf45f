#include "../support/backend.hpp"
#include "self_check.hpp"

// What a GPU's libraries refuse or stumble over that a host would compute, and a device that is broken for good.

using namespace device_double::check;
using test::backend;

namespace {

/// The status of an eigensolver on a dry device with that batch.
cusolverStatus_t solve_dry(index_t n, index_t count) {
  device_double::device_limit(std::size_t{1} << 40);
  device_double::dry(true);
  cusolverStatus_t status{};
  {
    solver const c;
    auto const elements = static_cast<std::size_t>(n * n * count), values = static_cast<std::size_t>(n * count);
    device<double> const a(elements), w(values);
    device<int> const info(static_cast<std::size_t>(count));
    std::size_t on_device = 0, on_host = 0;
    REQUIRE(cusolverDnXsyevBatched_bufferSize(c.h, c.params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, n,
                                              CUDA_R_64F, a.p, n, CUDA_R_64F, w.p, CUDA_R_64F, &on_device, &on_host,
                                              count) == 0);
    device<char> const work(on_device);
    std::vector<char> host_work(on_host);
    status = cusolverDnXsyevBatched(c.h, c.params, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, a.p,
                                    n, CUDA_R_64F, w.p, CUDA_R_64F, work.p, on_device, host_work.data(), on_host,
                                    info.p, count);
  }
  device_double::dry(false);
  device_double::device_limit(device_double::whole_device);
  return status;
}

}  // namespace

TEST_CASE("batches of eigenproblems that are too large are refused", "[device_double]") {
  CHECK(solve_dry(1024, 255) == CUSOLVER_STATUS_SUCCESS);
  CHECK(solve_dry(1024, 256) == CUSOLVER_STATUS_INVALID_VALUE);  // 2^31 bytes
  CHECK(solve_dry(8, 16384) == CUSOLVER_STATUS_SUCCESS);
  CHECK(solve_dry(8, 16385) == CUSOLVER_STATUS_INVALID_VALUE);
}

TEST_CASE("listed batches on tensor cores begin on 16 bytes", "[device_double]") {
  auto const status = [](cudaDataType t, cublasComputeType_t how, std::size_t offset) {
    device<char> const a(1024), lists(24);
    cudaMemsetAsync(a.p, 0, 1024, nullptr);
    auto** const l = reinterpret_cast<void**>(lists.p);
    l[0] = a.p + offset, l[1] = a.p + 256, l[2] = a.p + 512;
    blas const handle;
    float const one = 1;
    return cublasGemmBatchedEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 8, 8, 8, &one, l, t, 8, l + 1, t, 8, &one, l + 2,
                                  t, 8, 1, how, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(status(CUDA_R_16BF, CUBLAS_COMPUTE_32F, 0) == CUBLAS_STATUS_SUCCESS);
  CHECK(status(CUDA_R_16BF, CUBLAS_COMPUTE_32F, 8) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(status(CUDA_R_16F, CUBLAS_COMPUTE_32F, 8) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(status(CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 4) == CUBLAS_STATUS_EXECUTION_FAILED);
}

TEST_CASE("a broken device fails every later call, but gives back what it is told to", "[device_double]") {
  std::size_t const before = device_double::live_device_allocations();
  {
    blas const handle;
    device<float> const a(1);
    *a.p = 1;
    float const one = 1;
    auto const multiply = [&] {
      return cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 0, &one, a.p, CUDA_R_32F, 1, a.p, CUDA_R_32F, 1,
                             &one, a.p, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    };
    device_double::fail_next("cudaMemsetAsync", cudaErrorIllegalAddress);
    CHECK(cudaMemsetAsync(a.p, 0, 4, nullptr) == cudaErrorIllegalAddress);
    CHECK(cudaStreamSynchronize(nullptr) == cudaErrorIllegalAddress);
    CHECK(multiply() == CUBLAS_STATUS_EXECUTION_FAILED);
    CHECK(cudaGetLastError() == cudaErrorIllegalAddress);
    CHECK(cudaPeekAtLastError() == cudaErrorIllegalAddress);
    void* p = nullptr;
    CHECK(cudaMallocAsync(&p, 8, nullptr) == cudaErrorIllegalAddress);
    CHECK(p == nullptr);
  }
  CHECK(device_double::live_device_allocations() == before);
  device_double::forget_requests();
  (void)cudaGetLastError();
  CHECK(cudaStreamSynchronize(nullptr) == cudaSuccess);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("an error that nobody read is the next launch's", "[device_double]") {
  auto be = test::make_backend();
  loraga::matrix<float, backend> m(be, 3, 2);
  auto const fails = [&] {
    CHECK_THROWS_WITH(loraga::fill(be, m.view(), 0), Catch::Contains("launch failed") && Catch::Contains("argument"));
    CHECK_NOTHROW(loraga::fill(be, m.view(), 0));
  };
  CHECK(cudaFreeAsync(nullptr, nullptr) == cudaErrorInvalidValue);
  fails();
  blas handle;
  device_double::fail_next("cublasSetMathMode", CUBLAS_STATUS_INTERNAL_ERROR);
  CHECK(cublasSetMathMode(handle.h, CUBLAS_DEFAULT_MATH) == CUBLAS_STATUS_INTERNAL_ERROR);
  CHECK_THROWS_AS(loraga::fill(be, m.view(), 0), loraga::backend_error);
  CHECK_NOTHROW(loraga::fill(be, m.view(), 0));
}
