#include <loraga/cuda.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

/// A product through this backend is right: it works.
void check_works(backend& be) {
  host const a = test::random(5, 4, 1), b = test::random(4, 3, 2);
  auto const da = test::upload<float>(be, a), db = test::upload<float>(be, b);
  matrix<float, backend> c(be, 5, 3);
  be.gemm(1.0, da.view(), db.view(), 0.0, c.view());
  CHECK(test::distance(test::download(be, c.view()), a * b) < 1e-5);
}

}  // namespace

TEST_CASE("a backend on a stream of its own, on the caller's, and on the default one", "[cuda]") {
  backend own;
  check_works(own);
  gpu::stream const mine;
  backend borrowed(mine.get());
  CHECK(borrowed.stream() == mine.get());
  check_works(borrowed);
  backend legacy(cudaStream_t{nullptr});
  check_works(legacy);
}

TEST_CASE("borrowed handles get their settings back; on another stream they are refused", "[cuda]") {
  gpu::stream const mine, other;
  gpu::handle<cublasHandle_t> const blas;
  gpu::handle<cusolverDnHandle_t> const solver;
  gpu::check(cublasSetStream(blas.get(), mine.get()), "cublasSetStream");
  gpu::check(cusolverDnSetStream(solver.get(), mine.get()), "cusolverDnSetStream");
  gpu::check(cublasSetPointerMode(blas.get(), CUBLAS_POINTER_MODE_DEVICE), "cublasSetPointerMode");
  gpu::check(cublasSetMathMode(blas.get(), CUBLAS_TF32_TENSOR_OP_MATH), "cublasSetMathMode");
  backend be(mine.get(), blas.get(), solver.get());
  check_works(be);
  slab<double, backend> s(be, 2, 3, 3), values(be, 2, 3, 1);
  slab<int, backend> flags(be, 2, 1, 1);
  fill(be, flags.view().side_by_side(), 0);
  for (index_t i = 0; i < 2; ++i) test::upload_to<double>(be, 2 * test::identity(3), s.view()[i]);
  be.cholesky_inverse_batched(s.view(), 0, 0, flags.view());
  CHECK(test::distance(test::download(be, s.view()[1]), std::sqrt(0.5) * test::identity(3)) < 1e-14);
  cublasPointerMode_t pointers{};
  cublasMath_t math{};
  cublasGetPointerMode(blas.get(), &pointers);
  cublasGetMathMode(blas.get(), &math);
  CHECK(pointers == CUBLAS_POINTER_MODE_DEVICE);
  CHECK(math == CUBLAS_TF32_TENSOR_OP_MATH);

  gpu::check(cublasSetStream(blas.get(), other.get()), "cublasSetStream");
  CHECK_THROWS_WITH(check_works(be), Catch::Contains("stream of the borrowed cuBLAS handle"));
  CHECK_THROWS_AS(backend(mine.get(), blas.get(), solver.get()), state_error);
  gpu::check(cublasSetStream(blas.get(), mine.get()), "cublasSetStream");
  check_works(be);
  gpu::check(cusolverDnSetStream(solver.get(), other.get()), "cusolverDnSetStream");
  CHECK_THROWS_WITH(be.eigh_batched(s.view(), 3, values.view(), flags.view()),
                    Catch::Contains("stream of the borrowed cuSOLVER handle"));
  CHECK_THROWS_AS(backend(mine.get(), blas.get(), solver.get()), state_error);
}

TEST_CASE("memory outlives the backend it came from", "[cuda]") {
  matrix<float, backend> kept;
  {
    backend gone;
    kept = test::upload<float>(gone, host(3, 2, 4.0));
    gone.synchronize();
  }
  backend be;
  CHECK(test::distance(test::download(be, kept.view()), host(3, 2, 4.0)) == 0);
}

TEST_CASE("out of memory is a named error, and the backend works on", "[cuda]") {
  backend be;
  CHECK_THROWS_WITH(be.allocate<float>(index_t{1} << 44),
                    Catch::Contains("cudaMallocAsync of 70368744177664 bytes") && Catch::Contains("out of memory"));
  try {
    be.allocate<float>(index_t{1} << 44);
  } catch (backend_error const& e) {
    CHECK(e.code == cudaErrorMemoryAllocation);
  }
  check_works(be);
}

TEST_CASE("a fork works beside its parent, ordered by events", "[cuda]") {
  backend be;
  auto const side = be.fork();
  CHECK(side->stream() != be.stream());
  backend::event filled;
  index_t const n = 1 << 20;
  matrix<float, backend> x(be, n, 1), y(be, n, 1);
  for (int round = 1; round <= 5; ++round) {
    for (int i = 0; i < 20; ++i) fill(be, x.view(), round);
    be.record(filled);
    side->wait(filled);
    side->copy(x.view(), y.view());
    side->synchronize();
    CHECK(test::distance(test::download(be, y.view().row_range(n - 3, 3)), host(3, 1, round)) == 0);
  }
}

TEST_CASE("while a stream is captured nothing is allocated", "[cuda]") {
  backend be;
  check_works(be);
  REQUIRE(cudaStreamBeginCapture(be.stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  CHECK_THROWS_WITH(be.allocate<float>(3), Catch::Contains("stream is being captured"));
  CHECK_THROWS_AS(be.synchronize(), backend_error);  // which ends the capture
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(be.stream(), &graph);
  if (graph) cudaGraphDestroy(graph);
  (void)cudaGetLastError();
  check_works(be);
}
