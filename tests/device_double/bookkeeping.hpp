#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
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
/// The function that `enter` named last on this thread, and work that runs later in its name. What it throws breaks the
/// device: nobody is there to catch it.
char const* current_function();
void as_function(char const* function, std::function<void()> const& work);
/// The info a test asked for of the current function, if it did. Taken when the call is made.
std::optional<int> asked_info();

/// The status that every call of the runtime returns since the device broke, or success.
cudaError_t device_state();
/// What a library's call failed of is the runtime's last error too.
void library_failed();
/// The device breaks, if that is a status which lasts. Returns it.
cudaError_t break_device(cudaError_t status);

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
/// Null if the limit forbids it. A pool may own it.
void* take(where space, std::size_t bytes, cudaMemPool_t pool = nullptr);
/// Takes an address off what is alive; false if it is not. The memory stays for work handed over before, until discard.
bool retire(where space, void* p);
void discard(void* p);
/// Whether all those bytes lie in one live allocation.
bool inside(where space, void const* p, std::size_t bytes);
/// The same of device memory that is alive or not discarded yet: what work may use whose turn has come.
bool still_there(void const* p, std::size_t bytes);
/// Whether any of those bytes is device memory.
bool touches_device(void const* p, std::size_t bytes);
/// Live bytes of a pool.
std::size_t bytes_of(cudaMemPool_t pool);

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
  std::size_t alignment_ = 1;

 public:
  /// Each begins on so many bytes.
  void aligned(std::size_t bytes) { alignment_ = bytes; }
  void reads(strided what) { read_.push_back(what); }
  void writes(strided what) { written_.push_back(what); }
  /// Later: when the work's turn has come. Memory that was given back behind it is there still.
  bool good(bool later = false) const;
};

}  // namespace device_double
