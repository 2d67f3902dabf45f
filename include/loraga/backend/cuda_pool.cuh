#pragma once
#include <cstdint>
#include <limits>
#include <loraga/backend/cuda_handles.cuh>
#include <map>
#include <mutex>

// Where device memory comes from.

namespace loraga::gpu {

/// A pool that keeps what is freed, as CUDA's default pool does not: that one gives it back to the device whenever
/// somebody waits, and takes it anew. Null where the driver makes no pool.
inline cudaMemPool_t make_pool(int device) noexcept {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  if (auto const failed = cudaMemPoolCreate(&pool, &properties); failed != cudaSuccess) return forget(failed), nullptr;
  std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  if (auto const failed = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &most);
      failed != cudaSuccess) {
    forget(failed);
    forget(cudaMemPoolDestroy(pool));
    return nullptr;
  }
  return pool;
}

/// The pool of a device, for all backends of the process. It is never destroyed, because memory may outlive them.
inline cudaMemPool_t device_pool(int device) {
  static std::mutex mutex;
  static auto& pools = *new std::map<int, cudaMemPool_t>;
  std::lock_guard const guard(mutex);
  auto const [found, is_new] = pools.try_emplace(device, nullptr);
  if (is_new) found->second = make_pool(device);
  return found->second;
}

/// Memory of a pool, or of the default one if it is null, in the order of a stream's work.
/// errors  backend_error
inline void* take_from_pool(cudaMemPool_t pool, std::size_t bytes, cudaStream_t stream) {
  void* p = nullptr;
  auto const failed = pool ? cudaMallocFromPoolAsync(&p, bytes, pool, stream) : cudaMallocAsync(&p, bytes, stream);
  if (failed == cudaSuccess) return p;
  check(failed,
        ((pool ? "cudaMallocFromPoolAsync of " : "cudaMallocAsync of ") + std::to_string(bytes) + " bytes").c_str());
  return nullptr;
}

}  // namespace loraga::gpu
