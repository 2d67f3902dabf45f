#include "bookkeeping.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace device_double {
namespace {

struct request {
  int calls_left, value;
};
using requests = std::map<std::string, std::vector<request>, std::less<>>;

struct handle_state {
  std::shared_ptr<void> memory;
  bool alive;
};
using allocations = std::map<std::uintptr_t, std::size_t>;

struct everything {
  std::mutex mutex;
  requests failures, infos;
  std::map<std::string, long, std::less<>> calls;
  std::map<void const*, handle_state> handles;
  allocations device, pinned;
  std::size_t device_bytes = 0, limit = whole_device;
  long complaints = 0;
  work done;
  allocations& of(where space) { return space == where::device ? device : pinned; }
};
everything& state() {
  static everything all;
  return all;
}
thread_local char const* current = "";

using lock = std::lock_guard<std::mutex>;

/// One call less for every request of a function; the value of one that is due, which is dropped.
std::optional<int> due(requests& all, char const* function) {
  auto const found = all.find(function);
  if (found == all.end()) return {};
  std::optional<int> value;
  auto& list = found->second;
  for (request& r : list)
    if (--r.calls_left == 0) value = r.value;
  list.erase(std::remove_if(list.begin(), list.end(), [](request const& r) { return r.calls_left <= 0; }), list.end());
  return value;
}
std::size_t waiting(requests const& all) {
  std::size_t n = 0;
  for (auto const& entry : all) n += entry.second.size();
  return n;
}

std::uintptr_t address(void const* p) { return reinterpret_cast<std::uintptr_t>(p); }

}  // namespace

void fail_next(std::string_view function, int status) { fail_next(function, status, 1); }
void fail_next(std::string_view function, int status, int nth) {
  lock const guard(state().mutex);
  state().failures[std::string(function)].push_back({nth, status});
}
void info_next(std::string_view function, int info, int nth) {
  lock const guard(state().mutex);
  state().infos[std::string(function)].push_back({nth, info});
}
std::size_t pending() {
  lock const guard(state().mutex);
  return waiting(state().failures) + waiting(state().infos);
}
void forget_requests() {
  lock const guard(state().mutex);
  state().failures.clear();
  state().infos.clear();
}
long calls(std::string_view function) {
  lock const guard(state().mutex);
  auto const found = state().calls.find(function);
  return found == state().calls.end() ? 0 : found->second;
}
namespace {
work sum(work const& a, work const& b, int sign) {
  return {a.kernels + sign * b.kernels,
          a.products + sign * b.products,
          a.solvers + sign * b.solvers,
          a.copies + sign * b.copies,
          a.waits + sign * b.waits,
          a.product_bytes + sign * b.product_bytes,
          a.copied_bytes + sign * b.copied_bytes};
}
}  // namespace
void count(work const& more) {
  lock const guard(state().mutex);
  state().done = sum(state().done, more, 1);
}
work counted() {
  lock const guard(state().mutex);
  return state().done;
}
work operator-(work const& now, work const& before) { return sum(now, before, -1); }

std::size_t live_device_allocations() {
  lock const guard(state().mutex);
  return state().device.size();
}
std::size_t live_host_allocations() {
  lock const guard(state().mutex);
  return state().pinned.size();
}
std::size_t live_device_bytes() {
  lock const guard(state().mutex);
  return state().device_bytes;
}
std::size_t live_handles() {
  lock const guard(state().mutex);
  auto const& all = state().handles;
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](auto const& h) { return h.second.alive; }));
}
void device_limit(std::size_t bytes) {
  lock const guard(state().mutex);
  state().limit = bytes;
}
long complaints() {
  lock const guard(state().mutex);
  return state().complaints;
}

int enter(char const* function) {
  current = function;
  lock const guard(state().mutex);
  auto const found = state().calls.find(function);
  if (found == state().calls.end()) state().calls.emplace(function, 1);
  else ++found->second;
  return due(state().failures, function).value_or(0);
}
void complain(std::string const& what) {
  std::fprintf(stderr, "device_double: %s: %s\n", current, what.c_str());
  lock const guard(state().mutex);
  ++state().complaints;
}
int reported_info(int info) {
  lock const guard(state().mutex);
  return due(state().infos, current).value_or(info);
}

void adopt(std::shared_ptr<void> handle) {
  lock const guard(state().mutex);
  auto const* const key = handle.get();
  state().handles[key] = {std::move(handle), true};
}
bool alive(void const* handle) {
  lock const guard(state().mutex);
  auto const found = state().handles.find(handle);
  return found != state().handles.end() && found->second.alive;
}
bool destroy(void const* handle) {
  lock const guard(state().mutex);
  auto const found = state().handles.find(handle);
  bool const was_alive = found != state().handles.end() && found->second.alive;
  if (was_alive) found->second.alive = false;
  return was_alive;
}
bool stream_alive(cudaStream_t stream) {
  return stream == nullptr || stream == cudaStreamLegacy || stream == cudaStreamPerThread || alive(stream);
}

void* take(where space, std::size_t bytes) {
  lock const guard(state().mutex);
  auto& all = state();
  bool const on_device = space == where::device;
  if (on_device && (bytes > all.limit || all.device_bytes > all.limit - bytes)) return nullptr;
  void* p = nullptr;
  // Not operator new: the tests' own rounds sizes up, and the sanitizer would miss a kernel that runs over the end.
  if (posix_memalign(&p, 256, bytes) != 0) return nullptr;
  std::memset(p, 0xFF, bytes);  // a NaN in every type
  all.of(space)[address(p)] = bytes;
  if (on_device) all.device_bytes += bytes;
  return p;
}
bool give_back(where space, void* p) {
  lock const guard(state().mutex);
  auto& list = state().of(space);
  auto const found = list.find(address(p));
  if (found == list.end()) return false;
  if (space == where::device) state().device_bytes -= found->second;
  list.erase(found);
  std::free(p);
  return true;
}
bool inside(where space, void const* p, std::size_t bytes) {
  lock const guard(state().mutex);
  auto const& list = state().of(space);
  auto const after = list.upper_bound(address(p));
  if (after == list.begin()) return false;
  auto const& [start, size] = *std::prev(after);
  std::size_t const offset = address(p) - start;
  return offset < size && bytes <= size - offset;
}
bool touches_device(void const* p, std::size_t bytes) {
  lock const guard(state().mutex);
  auto const& list = state().device;
  auto const after = list.lower_bound(address(p) + std::max<std::size_t>(bytes, 1));
  if (after == list.begin()) return false;
  auto const& [start, size] = *std::prev(after);
  return start + size > address(p);
}

strided::strided(char const* n, void const* p, std::int64_t rows, std::int64_t cols, std::int64_t ld,
                 std::size_t element)
    : name(n),
      data(address(p)),
      width(static_cast<std::size_t>(std::max<std::int64_t>(rows, 0)) * element),
      count(static_cast<std::size_t>(std::max<std::int64_t>(cols, 0))),
      pitch(static_cast<std::size_t>(ld) * element) {}

bool strided::overlaps(strided const& other) const {
  if (empty() || other.empty() || data + span() <= other.data || other.data + other.span() <= data) return false;
  for (std::size_t i = 0; i < count; ++i) {
    std::uintptr_t const mine = data + i * pitch;
    // Of the other's pieces the last one that starts before mine, and the one after it.
    std::size_t const before = mine > other.data ? (mine - other.data) / std::max<std::size_t>(other.pitch, 1) : 0;
    for (std::size_t j = before; j < std::min(before + 2, other.count); ++j) {
      std::uintptr_t const theirs = other.data + j * other.pitch;
      if (mine < theirs + other.width && theirs < mine + width) return true;
    }
  }
  return false;
}

bool operands::good() const {
  bool all = true;
  auto const located = [&](strided const& s) {
    if (s.empty() || inside(where::device, s.pointer(), s.span())) return;
    complain(std::string(s.name) + " is not in one live device allocation (" + std::to_string(s.span()) + " bytes)");
    all = false;
  };
  auto const apart = [&](strided const& s, strided const& other) {
    if (!s.overlaps(other)) return;
    complain(std::string(s.name) + " is written and overlaps " + other.name);
    all = false;
  };
  for (strided const& s : read_) located(s);
  for (strided const& s : written_) located(s);
  for (std::size_t i = 0; i < written_.size(); ++i) {
    for (strided const& s : read_) apart(written_[i], s);
    for (std::size_t j = 0; j < i; ++j) apart(written_[i], written_[j]);
  }
  return all;
}

}  // namespace device_double
