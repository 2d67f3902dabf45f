#include <algorithm>
#include <map>
#include <mutex>

#include "cudart_common.hpp"

// Memory pools of the one device. What a pool keeps is counted, not kept: memory given back is gone.

using namespace device_double;

struct CUmemPoolHandle_st {
  std::uint64_t threshold = 0;
  int reuse[3] = {1, 1, 1};  // following events, opportunistic, with dependencies of its own: CUDA's defaults
  std::uint64_t reserved = 0, reserved_high = 0, used_high = 0;
};

namespace {

std::mutex pool_mutex;
auto& pools =
    *new std::map<cudaMemPool_t, bool>;  // whether alive. They are no handles: a library may keep one for good
cudaMemPool_t standard() {
  static CUmemPoolHandle_st pool;
  return &pool;
}
bool pool_alive(cudaMemPool_t pool) {
  std::lock_guard const guard(pool_mutex);
  auto const found = pools.find(pool);
  if (pool == standard() || (found != pools.end() && found->second)) return true;
  return complain("the memory pool is not alive"), false;
}
/// body() with a live pool.
template <class F>
cudaError_t with_pool(char const* function, cudaMemPool_t pool, F const& body) {
  return run(function, [&] {
    if (!pool_alive(pool)) return cudaErrorInvalidValue;
    std::lock_guard const guard(pool_mutex);
    return body();
  });
}
std::uint64_t used(cudaMemPool_t pool) { return bytes_of(pool == standard() ? nullptr : pool); }
bool settable(cudaMemPoolAttr attribute) {
  return attribute != cudaMemPoolAttrReservedMemCurrent && attribute != cudaMemPoolAttrUsedMemCurrent;
}
int* reuse_of(cudaMemPool_t pool, cudaMemPoolAttr attribute) {
  int const i = attribute - cudaMemPoolReuseFollowEventDependencies;
  return i >= 0 && i < 3 ? &pool->reuse[i] : nullptr;
}

cudaError_t allocate_from(void** p, std::size_t size, cudaMemPool_t pool, cudaStream_t stream) {
  if (size == 0 || p == nullptr || !pool_alive(pool)) return cudaErrorInvalidValue;
  *p = take_on(stream, size, pool == standard() ? nullptr : pool);
  if (*p == nullptr) return cudaErrorMemoryAllocation;
  std::lock_guard const guard(pool_mutex);
  pool->used_high = std::max(pool->used_high, used(pool));
  pool->reserved = std::max(pool->reserved, used(pool));
  pool->reserved_high = std::max(pool->reserved_high, pool->reserved);
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  return run(__func__, [&] { return device == 0 ? (*pool = standard(), cudaSuccess) : cudaErrorInvalidDevice; });
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, cudaMemPoolProps const* properties) {
  return run(__func__, [&] {
    auto const& p = *properties;
    bool const zeros = std::all_of(std::begin(p.reserved), std::end(p.reserved), [](auto c) { return c == 0; });
    bool const here = p.location.type == cudaMemLocationTypeDevice && p.location.id == 0;
    if (p.allocType != cudaMemAllocationTypePinned || !here || !zeros)
      return complain("properties are not those of memory on the device, or their rest is not zero"),
             cudaErrorInvalidValue;
    if (p.handleTypes != cudaMemHandleTypeNone) return cudaErrorNotSupported;
    std::lock_guard const guard(pool_mutex);
    pools[*pool = new CUmemPoolHandle_st] = true;  // never deleted: no later one has its address
    return cudaSuccess;
  });
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  return run(__func__, [&] {
    if (pool == standard()) return cudaErrorInvalidValue;
    if (!pool_alive(pool)) return cudaErrorInvalidValue;
    std::lock_guard const guard(pool_mutex);
    return pools[pool] = false, cudaSuccess;  // what was taken from it lives on
  });
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return with_pool(__func__, pool, [&] {
    if (int* const reuse = reuse_of(pool, attribute)) return *reuse = *static_cast<int*>(value), cudaSuccess;
    if (!settable(attribute)) return cudaErrorInvalidValue;
    auto const n = *static_cast<std::uint64_t*>(value);
    if (attribute == cudaMemPoolAttrReleaseThreshold) return pool->threshold = n, cudaSuccess;
    if (n != 0) return cudaErrorInvalidValue;  // a high mark can only be begun anew
    if (attribute == cudaMemPoolAttrReservedMemHigh) return pool->reserved_high = pool->reserved, cudaSuccess;
    if (attribute == cudaMemPoolAttrUsedMemHigh) return pool->used_high = used(pool), cudaSuccess;
    return cudaErrorInvalidValue;
  });
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value) {
  return with_pool(__func__, pool, [&] {
    auto const is = [&](std::uint64_t n) { return *static_cast<std::uint64_t*>(value) = n, cudaSuccess; };
    if (int const* const reuse = reuse_of(pool, attribute)) return *static_cast<int*>(value) = *reuse, cudaSuccess;
    if (attribute == cudaMemPoolAttrReleaseThreshold) return is(pool->threshold);
    if (attribute == cudaMemPoolAttrReservedMemCurrent) return is(std::max(pool->reserved, used(pool)));
    if (attribute == cudaMemPoolAttrReservedMemHigh) return is(pool->reserved_high);
    if (attribute == cudaMemPoolAttrUsedMemCurrent) return is(used(pool));
    return attribute == cudaMemPoolAttrUsedMemHigh ? is(pool->used_high) : cudaErrorInvalidValue;
  });
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, std::size_t bytes) {
  return with_pool(__func__, pool, [&] {
    pool->reserved = std::max(used(pool), std::min<std::uint64_t>(pool->reserved, bytes));
    return cudaSuccess;
  });
}
cudaError_t cudaMallocFromPoolAsync(void** p, std::size_t size, cudaMemPool_t pool, cudaStream_t stream) {
  return run_on(__func__, stream, [&] { return allocate_from(p, size, pool, stream); });
}
cudaError_t cudaMallocAsync(void** p, std::size_t size, cudaStream_t stream) {
  return run_on(__func__, stream, [&] { return allocate_from(p, size, standard(), stream); });
}

}  // extern "C"
