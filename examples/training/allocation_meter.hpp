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
  static void at_least(std::int64_t most);  ///< it has held as much before
};

/// Peak of what a piece of code needs beyond what was there when this was made. One may live within another.
class allocation_peak {
  std::int64_t before_ = thread_allocations::now(), most_before_ = thread_allocations::most();

 public:
  allocation_peak() { thread_allocations::reset_most(); }
  ~allocation_peak() { thread_allocations::at_least(most_before_); }
  allocation_peak(allocation_peak const&) = delete;
  allocation_peak& operator=(allocation_peak const&) = delete;
  std::int64_t bytes() const { return thread_allocations::most() - before_; }
  /// What of it is still there.
  std::int64_t held() const { return thread_allocations::now() - before_; }
};

}  // namespace training
