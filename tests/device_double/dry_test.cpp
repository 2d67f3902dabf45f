#include "../support/backend.hpp"
#include "self_check.hpp"

// Calls that are counted and not executed, the most memory that was alive, and memory pools.

using namespace device_double::check;
using loraga::bf16;
using test::backend;

namespace {

/// Dry while it lives, on a device of that size.
struct dry_device {
  explicit dry_device(std::size_t bytes) {
    device_double::device_limit(bytes);
    device_double::dry(true);
    device_double::reset_peak_device_bytes();
  }
  ~dry_device() {
    device_double::dry(false);
    device_double::dry_answers({});
    device_double::device_limit(device_double::whole_device);
  }
};
constexpr std::size_t terabyte = std::size_t{1} << 40;

}  // namespace

TEST_CASE("a dry device counts what it does not do", "[device_double]") {
  dry_device const here(terabyte);
  backend be;
  index_t const n = 65536, count = 20;  // 8 GB each
  std::vector<loraga::matrix<bf16, backend>> memory;
  std::vector<loraga::const_view<bf16, test::space>> views;
  for (index_t i = 0; i < count; ++i) {
    memory.emplace_back(be, n, n);
    views.push_back(memory.back().view());
  }
  loraga::slab<bf16, backend> x(be, count, n, 8);
  loraga::slab<float, backend> y(be, count, n, 8);
  auto const before = device_double::counted();
  loraga::fill(be, x.view().side_by_side(), 1);
  be.gemm_batched(1.0, loraga::view_list(views.data(), count), x.view(), 0.0, y.view());
  auto const did = device_double::counted() - before;
  CHECK(did.kernels == 2);  // a fill, and the lists of addresses
  CHECK(did.products == 1);
  CHECK(did.product_bytes == 20.0 * 65536 * (65536 * 2 + 8 * 2 + 8 * 4));
  CHECK(device_double::peak_device_bytes() > 20 * (std::size_t{8} << 30));
}

TEST_CASE("a dry device still looks at what calls are given", "[device_double]") {
  dry_device const here(terabyte);
  device<float> const a(16), c(16);
  blas const handle;
  float const one = 1;
  auto const multiply = [&](index_t ld, cublasComputeType_t how) {
    return cublasGemmEx_64(handle.h, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, a.p, CUDA_R_32F, ld, a.p, CUDA_R_32F, 4,
                           &one, c.p, CUDA_R_32F, 4, how, CUBLAS_GEMM_DEFAULT);
  };
  CHECK(multiply(4, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_SUCCESS);
  CHECK(multiply(5, CUBLAS_COMPUTE_32F) == CUBLAS_STATUS_EXECUTION_FAILED);
  CHECK(multiply(4, CUBLAS_COMPUTE_16F) == CUBLAS_STATUS_NOT_SUPPORTED);
  CHECK(cudaMemsetAsync(c.p + 1, 0, 64, nullptr) == cudaErrorInvalidValue);
  void* p = nullptr;
  CHECK(cudaMallocAsync(&p, 2 * terabyte, nullptr) == cudaErrorMemoryAllocation);
  CHECK(cudaGetLastError() == cudaErrorMemoryAllocation);
}

TEST_CASE("a test decides what the host reads from a dry device", "[device_double]") {
  dry_device const here(terabyte);
  backend be;
  loraga::matrix<double, backend> const m(be, 3, 2);
  CHECK(loraga::read_all(be, m.view()) == std::vector<double>(6, 0.0));
  device_double::dry_answers([](void* to, std::size_t width, std::size_t count) {
    CHECK(width * count == 48);
    std::fill_n(static_cast<double*>(to), 6, 1.0);
  });
  auto const before = device_double::counted();
  CHECK(loraga::read_all(be, m.view()) == std::vector<double>(6, 1.0));
  auto const did = device_double::counted() - before;
  CHECK(did.copies == 1);
  CHECK(did.copied_bytes == 48);
}

TEST_CASE("memory from before a dry time and from within it is given back after it", "[device_double]") {
  std::size_t const bytes = device_double::live_device_bytes();
  {
    device<float> const before(4);
    before.p[3] = 5;
    auto inside = std::make_unique<dry_device>(terabyte);
    device<float> const within(terabyte / 8);
    CHECK(device_double::live_device_bytes() == bytes + 16 + terabyte / 2);
    CHECK(device_double::peak_device_bytes() == bytes + 16 + terabyte / 2);
    CHECK(cudaMemsetAsync(before.p, 0, 16, nullptr) == cudaSuccess);
    inside.reset();
    CHECK(before.p[3] == 5);
  }
  CHECK(device_double::live_device_bytes() == bytes);
}

TEST_CASE("memory pools of the double", "[device_double]") {
  cudaMemPoolProps properties = {};
  cudaMemPool_t pool = nullptr, standard = nullptr;
  CHECK(cudaMemPoolCreate(&pool, &properties) == cudaErrorInvalidValue);  // says nothing of where
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, 0};
  REQUIRE(cudaMemPoolCreate(&pool, &properties) == cudaSuccess);
  std::uint64_t threshold = ~std::uint64_t{0}, found = 0;
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold) == cudaSuccess);
  CHECK(cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &found) == cudaSuccess);
  CHECK(found == threshold);
  CHECK(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &threshold) == cudaErrorInvalidValue);
  auto const is = [&](cudaMemPoolAttr what, std::uint64_t bytes) {
    REQUIRE(cudaMemPoolGetAttribute(pool, what, &found) == cudaSuccess);
    CHECK(found == bytes);
  };
  void *a = nullptr, *b = nullptr;
  REQUIRE(cudaMallocFromPoolAsync(&a, 1000, pool, nullptr) == cudaSuccess);
  REQUIRE(cudaMallocFromPoolAsync(&b, 500, pool, nullptr) == cudaSuccess);
  CHECK(cudaFreeAsync(b, nullptr) == cudaSuccess);
  is(cudaMemPoolAttrUsedMemCurrent, 1000);
  is(cudaMemPoolAttrUsedMemHigh, 1500);
  is(cudaMemPoolAttrReservedMemCurrent, 1500);
  CHECK(cudaMemPoolTrimTo(pool, 0) == cudaSuccess);
  is(cudaMemPoolAttrReservedMemCurrent, 1000);

  REQUIRE(cudaDeviceGetDefaultMemPool(&standard, 0) == cudaSuccess);
  CHECK(cudaDeviceGetDefaultMemPool(&standard, 1) == cudaErrorInvalidDevice);
  CHECK(cudaMemPoolDestroy(standard) == cudaErrorInvalidValue);
  CHECK(cudaMemPoolDestroy(pool) == cudaSuccess);
  CHECK(cudaMemPoolDestroy(pool) == cudaErrorInvalidValue);
  CHECK(cudaMallocFromPoolAsync(&b, 500, pool, nullptr) == cudaErrorInvalidValue);
  CHECK(cudaFreeAsync(a, nullptr) == cudaSuccess);  // outlives its pool
  cudaGetLastError();
}
