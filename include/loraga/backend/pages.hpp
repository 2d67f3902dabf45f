#pragma once
#include <cstddef>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace loraga {

/// Large allocations begin here, and take pages of that size where the system has them.
inline constexpr std::size_t large_page = std::size_t{1} << 21;

/// Alignment for memory of that size: a cache line, or a large page.
inline std::size_t alignment_for(std::size_t bytes) { return bytes >= 2 * large_page ? large_page : 64; }

/// Asks for large pages, where there are any. A product walks over thousands of columns: with pages of 4 KiB finding
/// them takes up to a third of its time.
inline void prefer_large_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#ifdef __linux__
  if (bytes >= 2 * large_page) madvise(p, bytes, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
}

}  // namespace loraga
