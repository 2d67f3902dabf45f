#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "device_double.hpp"

// What the double's four libraries share: who was called, what is alive, which memory is whose.

namespace device_double {

/// First thing in every function: counts the call and names it for complaints. The status a test asked for, or 0.
int enter(char const* function);
/// Adds to what has been counted.
void count(work const& more);
/// Says on stderr what the current function was given wrongly.
void complain(std::string const& what);
/// The info a test asked for of the current function, else the one given.
int reported_info(int info);

/// Handles. A destroyed one's memory is kept, so that no later handle has its address.
void adopt(std::shared_ptr<void> handle);
bool alive(void const* handle);
bool destroy(void const* handle);
template <class H>
H* create() {
  auto const handle = std::make_shared<H>();
  adopt(handle);
  return handle.get();
}
/// A live stream or one of the three that always are.
bool stream_alive(cudaStream_t stream);

enum class where { device, pinned };
/// Null if the limit forbids it.
void* take(where space, std::size_t bytes);
/// False for an address that did not come from take.
bool give_back(where space, void* p);
/// Whether all those bytes lie in one live allocation.
bool inside(where space, void const* p, std::size_t bytes);
/// Whether any of those bytes is device memory.
bool touches_device(void const* p, std::size_t bytes);

/// Bytes of a column-major matrix, or of anything else that comes in equal pieces.
struct strided {
  char const* name;
  std::uintptr_t data;
  std::size_t width, count, pitch;  // bytes, pieces, bytes
  strided(char const* n, void const* p, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::size_t element);
  bool empty() const { return width == 0 || count == 0; }
  std::size_t span() const { return empty() ? 0 : (count - 1) * pitch + width; }
  bool overlaps(strided const& other) const;
  void const* pointer() const { return reinterpret_cast<void const*>(data); }
};

/// The device operands of one call: each must lie in one live allocation, and what is written must be nobody else's.
class operands {
  std::vector<strided> read_, written_;

 public:
  void reads(strided what) { read_.push_back(what); }
  void writes(strided what) { written_.push_back(what); }
  bool good() const;
};

}  // namespace device_double
