#include "self_check.hpp"

// The double's runtime, cuBLAS and controls against naive formulas.

using namespace device_double::check;

namespace {

template <class T, class C>
void check_product(bool ta, bool tb, cublasComputeType_t compute, double beta) {
  index_t const m = 5, n = 4, k = 7;
  host const a = small_whole_numbers(m, k, 1), b = small_whole_numbers(k, n, 2), c = small_whole_numbers(m, n, 3);
  device<T> const da(ta ? transpose(a) : a, 9), db(tb ? transpose(b) : b, 8);
  device<C> dc(c, 6);
  if (beta == 0) std::memset(static_cast<void*>(dc.p), 0xFF, 6 * n * sizeof(C));
  blas const handle;
  float const alpha_f = 2, beta_f = static_cast<float>(beta);
  double const alpha_d = 2;
  bool const wide = compute == CUBLAS_COMPUTE_64F;
  void const *al = &alpha_f, *be = &beta_f;
  if (wide) al = &alpha_d, be = &beta;
  REQUIRE(cublasGemmEx_64(handle.h, ta ? CUBLAS_OP_T : CUBLAS_OP_N, tb ? CUBLAS_OP_T : CUBLAS_OP_N, m, n, k, al, da.p,
                          type<T>, 9, db.p, type<T>, 8, be, dc.p, type<C>, 6, compute, CUBLAS_GEMM_DEFAULT) == 0);
  host const expected = 2.0 * (a * b) + beta * c;
  CHECK(distance(dc.get(m, n, 6), expected) <= (sizeof(C) == 2 ? 1.0 : 0.0));  // 16 bits hold whole numbers to 256
}

}  // namespace

TEST_CASE("the double's products are the formula's in every layout and type", "[device_double]") {
  for (bool const ta : {false, true})
    for (bool const tb : {false, true})
      for (double const beta : {0.0, 3.0}) {
        check_product<double, double>(ta, tb, CUBLAS_COMPUTE_64F, beta);
        check_product<float, float>(ta, tb, CUBLAS_COMPUTE_32F, beta);
        check_product<float, float>(ta, tb, CUBLAS_COMPUTE_32F_FAST_TF32, beta);
        check_product<loraga::bf16, loraga::bf16>(ta, tb, CUBLAS_COMPUTE_32F, beta);
        check_product<loraga::bf16, float>(ta, tb, CUBLAS_COMPUTE_32F_PEDANTIC, beta);
        check_product<loraga::fp16, loraga::fp16>(ta, tb, CUBLAS_COMPUTE_32F, beta);
        check_product<loraga::fp16, float>(ta, tb, CUBLAS_COMPUTE_32F, beta);
      }
}

TEST_CASE("TF32 in the double keeps ten bits", "[device_double]") {
  device<float> a(1), b(1), c(1);
  *a.p = 1 + 0x1p-12f, *b.p = 1;
  blas const handle;
  float const one = 1, zero = 0;
  auto const multiply = [&](cublasComputeType_t how) {
    REQUIRE(cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, a.p, CUDA_R_32F, 1, b.p, CUDA_R_32F, 1,
                            &zero, c.p, CUDA_R_32F, 1, how, CUBLAS_GEMM_DEFAULT) == 0);
    return *c.p;
  };
  CHECK(multiply(CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0f);
  CHECK(multiply(CUBLAS_COMPUTE_32F) == *a.p);
  cublasSetMathMode(handle.h, CUBLAS_TF32_TENSOR_OP_MATH);
  CHECK(multiply(CUBLAS_COMPUTE_32F) == 1.0f);
  CHECK(multiply(CUBLAS_COMPUTE_32F_PEDANTIC) == *a.p);
}

TEST_CASE("batched products in the double, at fixed distances and listed", "[device_double]") {
  index_t const n = 3, count = 4;
  host const a = small_whole_numbers(n, n * count, 4), b = small_whole_numbers(n, n, 5);
  device<double> const da(a, n), db(b, n), dc(static_cast<std::size_t>(n * n * count)),
      de(static_cast<std::size_t>(n * n * count));
  device<double*> const la(4), lb(4), le(4);
  for (index_t i = 0; i < count; ++i) la.p[i] = da.p + i * n * n, lb.p[i] = db.p, le.p[i] = de.p + i * n * n;
  blas const handle;
  double const one = 1, zero = 0;
  REQUIRE(cublasGemmStridedBatchedEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_T, n, n, n, &one, da.p, CUDA_R_64F, n, n * n,
                                        db.p, CUDA_R_64F, n, 0, &zero, dc.p, CUDA_R_64F, n, n * n, count,
                                        CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT) == 0);
  auto const listed = [&](double** a_list) {
    return cublasGemmBatchedEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_T, n, n, n, &one, reinterpret_cast<void**>(a_list),
                                  CUDA_R_64F, n, reinterpret_cast<void**>(lb.p), CUDA_R_64F, n, &zero,
                                  reinterpret_cast<void**>(le.p), CUDA_R_64F, n, count, CUBLAS_COMPUTE_64F,
                                  CUBLAS_GEMM_DEFAULT);
  };
  REQUIRE(listed(la.p) == 0);
  host const c = dc.get(n, n * count, n), e = de.get(n, n * count, n);
  CHECK(distance(c, e) == 0);
  for (index_t i = 0; i < count; ++i) {
    auto const member = [&](host const& m) {
      return test::generate(n, n, [&](index_t r, index_t s) { return m(r, s + i * n); });
    };
    CHECK(distance(member(c), member(a) * transpose(b)) == 0);
  }
  std::vector<double*> on_host(la.p, la.p + 4);
  CHECK(listed(on_host.data()) == CUBLAS_STATUS_EXECUTION_FAILED);
}

TEST_CASE("the double refuses what cuBLAS refuses, and what a GPU would stumble over", "[device_double]") {
  device<float> a(12), b(12), c(12);
  std::vector<float> on_host(12);
  blas const handle;
  float const one = 1;
  auto const multiply = [&](index_t m, index_t lda, float* x, float* z, cublasComputeType_t how) {
    return cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, m, 3, 3, &one, x, CUDA_R_32F, lda, b.p, CUDA_R_32F, 3,
                           &one, z, CUDA_R_32F, 4, how, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(multiply(4, 4, a.p, c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK(multiply(4, 3, a.p, c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(multiply(-1, 4, a.p, c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_INVALID_VALUE);
  CHECK(multiply(4, 4, a.p, c.p, CUBLAS_COMPUTE_16F) == CUBLAS_STATUS_NOT_SUPPORTED);
  long const before = device_double::complaints();
  CHECK(multiply(4, 5, a.p, c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_EXECUTION_FAILED);  // beyond the end
  CHECK(multiply(4, 4, a.p, a.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(multiply(4, 4, on_host.data(), c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(device_double::complaints() >= before + 3);
  cublasSetPointerMode(handle.h, CUBLAS_POINTER_MODE_DEVICE);
  CHECK(multiply(4, 4, a.p, c.p, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(cublasDestroy(nullptr) == CUBLAS_STATUS_NOT_INITIALIZED);
}

TEST_CASE("rows of one matrix beside each other do not overlap in the double", "[device_double]") {
  device<double> a(12), b(4);
  for (int i = 0; i < 12; ++i) a.p[i] = 1;
  for (int i = 0; i < 4; ++i) b.p[i] = 1;
  blas const handle;
  double const one = 1;
  auto const multiply = [&](double* c) {
    return cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 2, 2, 2, &one, a.p, CUDA_R_64F, 6, b.p, CUDA_R_64F, 2,
                           &one, c, CUDA_R_64F, 6, CUBLAS_COMPUTE_64F, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(multiply(a.p + 2) == CUBLAS_STATUS_SUCCESS);
  CHECK(a.p[8] == 3);
  CHECK(multiply(a.p + 1) == CUBLAS_STATUS_EXECUTION_FAILED);
}

TEST_CASE("triangular solves and rank-k updates of the double", "[device_double]") {
  index_t const m = 4, n = 3;
  blas const handle;
  double const alpha = 2, beta = 0;
  for (auto const side : {CUBLAS_SIDE_LEFT, CUBLAS_SIDE_RIGHT})
    for (auto const uplo : {CUBLAS_FILL_MODE_UPPER, CUBLAS_FILL_MODE_LOWER})
      for (auto const op : {CUBLAS_OP_N, CUBLAS_OP_T})
        for (auto const diag : {CUBLAS_DIAG_NON_UNIT, CUBLAS_DIAG_UNIT}) {
          index_t const order = side == CUBLAS_SIDE_LEFT ? m : n;
          host const full = test::random(order, order, 6) + 3.0 * test::identity(order), b = test::random(m, n, 7);
          host t = test::generate(order, order, [&](index_t i, index_t j) {
            if (i == j) return diag == CUBLAS_DIAG_UNIT ? 1.0 : full(i, j);
            return (i < j) == (uplo == CUBLAS_FILL_MODE_UPPER) ? full(i, j) : 0.0;
          });
          if (op == CUBLAS_OP_T) t = transpose(t);
          device<double> const da(full, 5), db(b, 6);
          device<double*> const la(1), lb(1);
          *la.p = da.p, *lb.p = db.p;
          REQUIRE(cublasDtrsmBatched_64(handle.h, side, uplo, op, diag, m, n, &alpha, la.p, 5, lb.p, 6, 1) == 0);
          host const x = db.get(m, n, 6);
          CHECK(distance(side == CUBLAS_SIDE_LEFT ? t * x : x * t, 2.0 * b) < 1e-12);
        }
  host const a = test::random(m, n, 8), square = 2.0 * (transpose(a) * a);
  device<double> const da(a, m), dc(9);
  REQUIRE(cublasDsyrk_v2_64(handle.h, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, n, m, &alpha, da.p, m, &beta, dc.p, n) == 0);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j)
      CHECK((i >= j ? std::abs(dc.p[i + j * n] - square(i, j)) < 1e-13 : std::isnan(dc.p[i + j * n])));
}

TEST_CASE("failures come when asked for, once", "[device_double]") {
  void* p = nullptr;
  device_double::fail_next("cudaMallocAsync", cudaErrorMemoryAllocation);
  device_double::fail_next("cudaStreamQuery", cudaErrorUnknown, 2);
  CHECK(device_double::pending() == 2);
  long const before = device_double::calls("cudaMallocAsync");
  CHECK(cudaMallocAsync(&p, 8, nullptr) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(cudaMallocAsync(&p, 8, nullptr) == cudaSuccess);
  CHECK(device_double::calls("cudaMallocAsync") == before + 2);
  CHECK(cudaFreeAsync(p, nullptr) == cudaSuccess);
  CHECK(cudaFreeAsync(p, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaStreamQuery(nullptr) == cudaSuccess);
  CHECK(cudaStreamQuery(nullptr) == cudaErrorUnknown);
  CHECK(cudaStreamQuery(nullptr) == cudaSuccess);
  CHECK(device_double::pending() == 0);
  device_double::device_limit(device_double::live_device_bytes() + 100);
  CHECK(cudaMallocAsync(&p, 101, nullptr) == cudaErrorMemoryAllocation);
  device_double::device_limit(device_double::whole_device);
  cudaGetLastError();
}

TEST_CASE("copies of the double know where memory is", "[device_double]") {
  device<double> const d(6);
  std::vector<double> values{1, 2, 3, 4, 5, 6}, back(6);
  auto const copy = [](void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  };
  CHECK(copy(d.p, values.data(), 48, cudaMemcpyHostToDevice) == cudaSuccess);
  CHECK(copy(d.p + 1, values.data(), 48, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(copy(back.data(), values.data(), 48, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  CHECK(copy(d.p + 3, d.p, 24, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  CHECK(cudaMemcpy2DAsync(back.data(), 16, d.p, 24, 16, 2, cudaMemcpyDefault, nullptr) == cudaSuccess);
  CHECK(back == std::vector<double>{1, 2, 4, 5, 0, 0});
  CHECK(cudaMemcpy2DAsync(back.data(), 8, d.p, 24, 16, 2, cudaMemcpyDefault, nullptr) == cudaErrorInvalidPitchValue);
  void* pinned = nullptr;
  REQUIRE(cudaMallocHost(&pinned, 8) == cudaSuccess);
  auto const kind = [](void const* p) {
    cudaPointerAttributes found;
    REQUIRE(cudaPointerGetAttributes(&found, p) == cudaSuccess);
    return found.type;
  };
  CHECK(kind(pinned) == cudaMemoryTypeHost);
  CHECK(kind(d.p + 5) == cudaMemoryTypeDevice);
  CHECK(kind(values.data()) == cudaMemoryTypeUnregistered);
  CHECK(cudaFreeHost(pinned) == cudaSuccess);
  cudaGetLastError();
}

TEST_CASE("handles and captures of the double", "[device_double]") {
  std::size_t const before = device_double::live_handles();
  device<double> const d(1);
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  cudaGraph_t graph = nullptr;
  double value = 1;
  void* pinned = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
  CHECK(device_double::live_handles() == before + 2);
  CHECK(cudaEventRecord(event, stream) == cudaSuccess);
  CHECK(cudaStreamWaitEvent(nullptr, event, 0) == cudaSuccess);

  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
  CHECK(cudaMemsetAsync(d.p, 0, 8, stream) == cudaSuccess);
  CHECK(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  CHECK(cudaGraphDestroy(graph) == cudaSuccess);
  auto const breaks = [&](auto const& call) {
    REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    CHECK(call() == cudaErrorStreamCaptureUnsupported);
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
  };
  breaks([&] { return cudaStreamSynchronize(stream); });
  breaks([&] { return cudaMallocHost(&pinned, 8); });
  breaks([&] { return cudaMemcpyAsync(d.p, &value, 8, cudaMemcpyHostToDevice, stream); });

  blas const handle;
  CHECK(cublasSetStream(handle.h, stream) == CUBLAS_STATUS_SUCCESS);
  CHECK(cudaEventDestroy(event) == cudaSuccess);
  CHECK(cudaStreamDestroy(stream) == cudaSuccess);
  CHECK(cudaStreamSynchronize(stream) == cudaErrorInvalidResourceHandle);
  CHECK(cudaEventRecord(event, nullptr) == cudaErrorInvalidResourceHandle);
  CHECK(cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 0, &value, d.p, CUDA_R_64F, 1, d.p, CUDA_R_64F, 1,
                        &value, d.p, CUDA_R_64F, 1, CUBLAS_COMPUTE_64F,
                        CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_EXECUTION_FAILED);
  cudaGetLastError();
}

TEST_CASE("nothing is left of the double's own tests", "[device_double]") {
  CHECK(device_double::live_device_allocations() == 0);
  CHECK(device_double::live_host_allocations() == 0);
  CHECK(device_double::live_handles() == 0);
}
