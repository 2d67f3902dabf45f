#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "bookkeeping.hpp"
#include "streams.hpp"

// Device and pinned memory: what is alive, and what lies where.

namespace device_double {
namespace {

struct block {
  std::size_t bytes;
  bool reserved;  // addresses only
  cudaMemPool_t pool;
};
using blocks = std::map<std::uintptr_t, block>;

struct all_memory {
  std::mutex mutex;
  blocks device, pinned, retired_device, retired_pinned;
  std::map<cudaMemPool_t, std::size_t> pool_bytes;  // of device memory, null: the default pool
  std::size_t device_bytes = 0, peak = 0, limit = whole_device;
  blocks& of(where space) { return space == where::device ? device : pinned; }
  blocks& retired(where space) { return space == where::device ? retired_device : retired_pinned; }
};
all_memory& memory() {
  static all_memory& all = *new all_memory;
  return all;
}
using memory_lock = std::lock_guard<std::mutex>;

std::uintptr_t address(void const* p) { return reinterpret_cast<std::uintptr_t>(p); }

/// A kernel that runs after all on addresses of the device is stopped by the processor; hosts may write to pinned
/// memory.
void* reserve(where space, std::size_t bytes) {
  int const access = space == where::device ? PROT_NONE : PROT_READ | PROT_WRITE;
  void* const p = mmap(nullptr, bytes, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}
void* take_now(std::size_t bytes) {
  void* p = nullptr;
  // Not operator new: the tests' own rounds sizes up, and the sanitizer would miss a kernel that runs over the end.
  if (posix_memalign(&p, 256, bytes) != 0) return nullptr;
  return std::memset(p, 0xFF, bytes);  // a NaN in every type
}
bool within(blocks const& list, void const* p, std::size_t bytes) {
  auto const after = list.upper_bound(address(p));
  if (after == list.begin()) return false;
  auto const& [start, found] = *std::prev(after);
  std::size_t const offset = address(p) - start;
  return offset < found.bytes && bytes <= found.bytes - offset;
}

}  // namespace

std::size_t live_device_allocations() {
  memory_lock const guard(memory().mutex);
  return memory().device.size();
}
std::size_t live_host_allocations() {
  memory_lock const guard(memory().mutex);
  return memory().pinned.size();
}
std::size_t live_device_bytes() {
  memory_lock const guard(memory().mutex);
  return memory().device_bytes;
}
std::size_t peak_device_bytes() {
  memory_lock const guard(memory().mutex);
  return memory().peak;
}
void reset_peak_device_bytes() {
  memory_lock const guard(memory().mutex);
  memory().peak = memory().device_bytes;
}
void device_limit(std::size_t bytes) {
  memory_lock const guard(memory().mutex);
  memory().limit = bytes;
}

void* take(where space, std::size_t bytes, cudaMemPool_t pool) {
  memory_lock const guard(memory().mutex);
  auto& all = memory();
  bool const on_device = space == where::device, reserved = is_dry();
  if (on_device && (bytes > all.limit || all.device_bytes > all.limit - bytes)) return nullptr;
  void* const p = reserved ? reserve(space, bytes) : take_now(bytes);
  if (p == nullptr) return nullptr;
  all.of(space)[address(p)] = {bytes, reserved, pool};
  if (on_device) {
    all.pool_bytes[pool] += bytes;
    all.peak = std::max(all.peak, all.device_bytes += bytes);
  }
  return p;
}
bool retire(where space, void* p) {
  memory_lock const guard(memory().mutex);
  auto& list = memory().of(space);
  auto const found = list.find(address(p));
  if (found == list.end()) return false;
  if (space == where::device) {
    memory().device_bytes -= found->second.bytes;
    memory().pool_bytes[found->second.pool] -= found->second.bytes;
  }
  memory().retired(space).insert(list.extract(found));
  return true;
}
void discard(void* p) {
  memory_lock const guard(memory().mutex);
  for (where const space : {where::device, where::pinned}) {
    auto& list = memory().retired(space);
    auto const found = list.find(address(p));
    if (found == list.end()) continue;
    if (found->second.reserved) munmap(p, found->second.bytes);
    else {
      if (is_delayed()) std::memset(p, 0xFF, found->second.bytes);  // who still reads it must not find what was there
      std::free(p);
    }
    list.erase(found);
    return;
  }
}
bool inside(where space, void const* p, std::size_t bytes) {
  memory_lock const guard(memory().mutex);
  return within(memory().of(space), p, bytes);
}
bool still_there(void const* p, std::size_t bytes) {
  memory_lock const guard(memory().mutex);
  return within(memory().device, p, bytes) || within(memory().retired_device, p, bytes);
}
bool touches_device(void const* p, std::size_t bytes) {
  memory_lock const guard(memory().mutex);
  auto const& list = memory().device;
  auto const after = list.lower_bound(address(p) + std::max<std::size_t>(bytes, 1));
  if (after == list.begin()) return false;
  auto const& [start, found] = *std::prev(after);
  return start + found.bytes > address(p);
}
std::size_t bytes_of(cudaMemPool_t pool) {
  memory_lock const guard(memory().mutex);
  return memory().pool_bytes[pool];
}

}  // namespace device_double
