#include "allocation_meter.hpp"

#include <malloc.h>

#include <algorithm>
#include <cstdlib>
#include <new>

namespace {

thread_local std::int64_t held = 0, most_held = 0;

void* counted(void* p) {
  if (!p) throw std::bad_alloc();
  held += static_cast<std::int64_t>(malloc_usable_size(p));
  most_held = std::max(most_held, held);
  return p;
}
void give_back(void* p) noexcept {
  if (p) held -= static_cast<std::int64_t>(malloc_usable_size(p));
  std::free(p);
}

}  // namespace

namespace training {

std::int64_t thread_allocations::now() { return held; }
std::int64_t thread_allocations::most() { return most_held; }
void thread_allocations::reset_most() { most_held = held; }
void thread_allocations::at_least(std::int64_t most) { most_held = std::max(most_held, most); }

}  // namespace training

void* operator new(std::size_t n) { return counted(std::malloc(std::max<std::size_t>(n, 1))); }
void* operator new(std::size_t n, std::align_val_t a) {
  auto const alignment = static_cast<std::size_t>(a);
  return counted(std::aligned_alloc(alignment, (std::max<std::size_t>(n, 1) + alignment - 1) / alignment * alignment));
}
void operator delete(void* p) noexcept { give_back(p); }
void operator delete(void* p, std::size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { give_back(p); }
