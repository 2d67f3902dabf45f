#include <loraga/backend/cuda_handles.cuh>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("a status becomes an exception that names the call", "[cuda]") {
  CHECK_NOTHROW(gpu::check(cudaSuccess, "cudaThis"));
  CHECK_THROWS_WITH(gpu::check(cudaErrorMemoryAllocation, "cudaThis"),
                    Catch::StartsWith("cudaThis: status is 2 (") && Catch::EndsWith("expected success"));
  CHECK_THROWS_WITH(gpu::check(CUBLAS_STATUS_ALLOC_FAILED, "cublasThis"), Catch::StartsWith("cublasThis: status is 3"));
  CHECK_THROWS_AS(gpu::check(CUSOLVER_STATUS_INTERNAL_ERROR, "cusolverThis"), backend_error);
  try {
    gpu::check(CUSOLVER_STATUS_NOT_INITIALIZED, "x");
  } catch (backend_error const& e) {
    CHECK(e.code == CUSOLVER_STATUS_NOT_INITIALIZED);
  }
}

TEST_CASE("owners own, borrowers do not", "[cuda]") {
  gpu::stream const own;
  CHECK(own.get() != nullptr);
  {
    gpu::stream const borrowed(own.get());
    CHECK(borrowed.get() == own.get());
    CHECK(borrowed.device() == own.device());
  }
  CHECK(cudaStreamSynchronize(own.get()) == cudaSuccess);
  gpu::handle<cublasHandle_t> const blas;
  CHECK(blas.owned());
  {
    gpu::handle<cublasHandle_t> const borrowed(blas.get());
    CHECK(!borrowed.owned());
  }
  CHECK(cublasSetStream(blas.get(), own.get()) == CUBLAS_STATUS_SUCCESS);
  gpu::event const e;
  CHECK(cudaEventRecord(e.get(), own.get()) == cudaSuccess);
}
