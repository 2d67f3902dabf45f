#include <loraga/cuda.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

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
  CHECK_THROWS_WITH(
      be.allocate<float>(index_t{1} << 44),
      Catch::Contains("cudaMallocFromPoolAsync of 70368744177664 bytes") && Catch::Contains("out of memory"));
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

TEST_CASE("chunks of a batch keep to the scratch that was asked for, and cover it once", "[cuda]") {
  backend be({.scratch_bytes = 1000});
  auto const chunks = [&](index_t count, index_t bytes) {
    std::vector<index_t> sizes;
    index_t next = 0;
    be.for_each_chunk(count, bytes, [&](backend& worker, index_t first, index_t n) {
      CHECK(&worker == &be);
      CHECK(first == next);
      next = first + n;
      sizes.push_back(n);
    });
    CHECK(next == count);
    return sizes;
  };
  CHECK(chunks(7, 100) == std::vector<index_t>{7});
  CHECK(chunks(11, 100) == std::vector<index_t>{6, 5});  // equal ones, not 10 and 1
  CHECK(chunks(3, 5000) == std::vector<index_t>{1, 1, 1});
  CHECK(chunks(3, 0) == std::vector<index_t>{3});
  CHECK(chunks(0, 100).empty());
  index_t members = 0;
  detail::for_each_chunk(be, 11, 100, [&](backend&, index_t, index_t n) { members = std::max(members, n); });
  CHECK(members == 6);
}

TEST_CASE("scratch of a large batch is given back, that of a step stays", "[cuda]") {
  backend be;
  auto const take = [](backend& b, index_t megabytes) { scratch<backend>(b).matrix<std::byte>(megabytes << 20, 1); };
  take(be, 3);
  index_t const of_step = be.memory().held();
  auto const batch = [&](index_t megabytes) {
    be.for_each_chunk(2, 1, [&](backend& b, index_t, index_t) {
      take(b, megabytes);
      take(b, megabytes + 1);
    });
  };
  batch(300);
  CHECK(be.memory().held() == of_step);
  CHECK_THROWS_AS(be.for_each_chunk(1, 1,
                                    [&](backend& b, index_t, index_t) {
                                      take(b, 300);
                                      throw state_error("stop");
                                    }),
                  state_error);
  CHECK(be.memory().held() == of_step);
  batch(5);  // small enough to be kept
  CHECK(be.memory().held() > of_step);
  take(be, 3);
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("memory comes from one pool for all backends of a device; trim empties it", "[cuda]") {
  backend be, other;
  auto const pool = gpu::device_pool(0);
  REQUIRE(pool != nullptr);
  auto const of = [&](cudaMemPoolAttr attribute) {
    std::uint64_t bytes = 0;
    CHECK(cudaMemPoolGetAttribute(pool, attribute, &bytes) == cudaSuccess);
    return bytes;
  };
  CHECK(of(cudaMemPoolAttrReleaseThreshold) == ~std::uint64_t{0});
  be.trim();
  auto const used = of(cudaMemPoolAttrUsedMemCurrent);
  CHECK(of(cudaMemPoolAttrReservedMemCurrent) == used);
  {
    auto const a = be.allocate<std::byte>(5000), b = other.fork()->allocate<std::byte>(7000);
    CHECK(of(cudaMemPoolAttrUsedMemCurrent) >= used + 12000);
  }
  be.synchronize();
  CHECK(of(cudaMemPoolAttrUsedMemCurrent) == used);
  CHECK(of(cudaMemPoolAttrReservedMemCurrent) >= used + 12000);
  be.trim();
  CHECK(of(cudaMemPoolAttrReservedMemCurrent) == used);
  REQUIRE(cudaStreamBeginCapture(be.stream(), cudaStreamCaptureModeThreadLocal) == cudaSuccess);
  be.trim();  // does not wait, which would end the capture
  cudaGraph_t graph = nullptr;
  CHECK(cudaStreamEndCapture(be.stream(), &graph) == cudaSuccess);
  if (graph) cudaGraphDestroy(graph);
}

TEST_CASE("where the driver makes no pool the default one serves", "[cuda]") {
  device_double::fail_next("cudaMemPoolCreate", cudaErrorNotSupported);
  CHECK(gpu::make_pool(0) == nullptr);
  auto const handles = device_double::live_handles();
  device_double::fail_next("cudaMemPoolSetAttribute", cudaErrorNotSupported);
  CHECK(gpu::make_pool(0) == nullptr);
  CHECK(device_double::live_handles() == handles);
  CHECK(cudaPeekAtLastError() == cudaSuccess);
  gpu::stream const on;
  void* const p = gpu::take_from_pool(nullptr, 100, on.get());
  CHECK(p != nullptr);
  CHECK(cudaFreeAsync(p, on.get()) == cudaSuccess);
  CHECK_THROWS_WITH(gpu::take_from_pool(nullptr, std::size_t{1} << 50, on.get()),
                    Catch::StartsWith("cudaMallocAsync of 1125899906842624 bytes"));
}
#endif
