#include <loraga/backend/cuda_handles.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

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

#ifdef LORAGA_TEST_DOUBLE
namespace {

/// The next launch is not blamed for what failed before it.
void check_launches(test::backend& be) {
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  matrix<float, test::backend> x(be, 3, 2);
  CHECK_NOTHROW(fill(be, x.view(), 2));
  CHECK(test::distance(test::download(be, x.view()), test::host(3, 2, 2.0)) == 0);
}

}  // namespace

TEST_CASE("what fails in a destructor is no later call's error", "[cuda]") {
  test::backend be;
  auto const fails = [&](char const* function, int status, auto const& destroy) {
    INFO(function);
    device_double::fail_next(function, status);
    destroy();
    CHECK(device_double::pending() == 0);
    device_double::forget_requests();
    check_launches(be);
  };
  fails("cudaFreeAsync", cudaErrorUnknown, [&] { be.allocate<float>(3); });
  fails("cudaFreeHost", cudaErrorUnknown, [&] { be.allocate_host<float>(3); });
  fails("cudaStreamDestroy", cudaErrorUnknown, [] { gpu::stream const own; });
  fails("cudaEventDestroy", cudaErrorUnknown, [] { gpu::event const own; });
  for (char const* function : {"cublasDestroy_v2", "cusolverDnDestroy", "cusolverDnDestroyParams"})
    fails(function, CUBLAS_STATUS_INTERNAL_ERROR, [] { test::backend const own; });
  auto own = std::make_unique<gpu::event>();
  fails("cudaGetDevice", cudaErrorUnknown, [&] { own.reset(); });
}

TEST_CASE("an error of somebody else stays his", "[cuda]") {
  test::backend be;
  auto memory = be.allocate<float>(3);
  CHECK(cudaFree(&memory) != cudaSuccess);  // not from there
  memory.reset();
  { gpu::event const own; }
  CHECK(cudaGetLastError() != cudaSuccess);
}

TEST_CASE("a library's failure is no later launch's error", "[cuda]") {
  test::backend be;
  auto a = test::upload<float>(be, test::random(3, 3, 1));
  matrix<float, test::backend> c(be, 3, 3);
  CHECK(cudaFreeHost(&be) != cudaSuccess);  // a library's call that fails may leave such an error
  device_double::fail_next("cublasGemmEx_64", CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK_THROWS_AS(be.gemm(1.0, a.view(), a.view(), 0.0, c.view()), backend_error);
  check_launches(be);
  slab<double, test::backend> s(be, 1, 3, 3), values(be, 1, 3, 1);
  slab<int, test::backend> flags(be, 1, 1, 1);
  fill(be, s.view()[0], 1);
  device_double::fail_next("cusolverDnXsyevBatched_bufferSize", CUSOLVER_STATUS_INTERNAL_ERROR);
  CHECK(cudaFreeHost(&be) != cudaSuccess);
  CHECK_THROWS_AS(be.eigh_batched(s.view(), 3, values.view(), flags.view()), backend_error);
  check_launches(be);
}

TEST_CASE("without a device a backend says so", "[cuda]") {
  device_double::fail_next("cudaGetDevice", cudaErrorNoDevice);
  CHECK_THROWS_WITH(test::backend(), Catch::StartsWith("cudaGetDevice: status is 100"));
  check_launches(*std::make_unique<test::backend>());
}
#endif
