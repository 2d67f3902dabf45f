#pragma once
#include <cstdint>

namespace training {

/// Bytes the calling thread holds through operator new, and the most it has held since the last reset. A run lives on
/// one thread, so this is its own memory, whatever runs beside it. (allocation_meter.cpp replaces operator new. A GPU's
/// memory is not counted.)
struct thread_allocations {
  static std::int64_t now();
  static std::int64_t most();
  static void reset_most();
};

/// Peak of what a piece of code needs beyond what was there when this was made.
class allocation_peak {
  std::int64_t before_ = thread_allocations::now();

 public:
  allocation_peak() { thread_allocations::reset_most(); }
  std::int64_t bytes() const { return thread_allocations::most() - before_; }
  /// What of it is still there.
  std::int64_t held() const { return thread_allocations::now() - before_; }
};

}  // namespace training
