#include "bookkeeping.hpp"

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <utility>

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
struct everything {
  std::mutex mutex;
  requests failures, infos;
  std::map<std::string, long, std::less<>> calls;
  std::map<void const*, handle_state> handles;
  cudaError_t broken = cudaSuccess;
  long complaints = 0;
  work done;
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
  state().broken = cudaSuccess;
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

std::size_t live_handles() {
  lock const guard(state().mutex);
  auto const& all = state().handles;
  return static_cast<std::size_t>(std::count_if(all.begin(), all.end(), [](auto const& h) { return h.second.alive; }));
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
std::optional<int> asked_info() {
  lock const guard(state().mutex);
  return due(state().infos, current);
}
char const* current_function() { return current; }
void as_function(char const* function, std::function<void()> const& work) {
  char const* const before = std::exchange(current, function);
  try {
    work();
  } catch (std::exception const& failure) {
    complain(std::string("its work failed: ") + failure.what());
    break_device(cudaErrorLaunchFailure);
  }
  current = before;
}

cudaError_t device_state() {
  lock const guard(state().mutex);
  return state().broken;
}
cudaError_t break_device(cudaError_t status) {
  static constexpr cudaError_t lasting[] = {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorMisalignedAddress,
                                            cudaErrorIllegalInstruction, cudaErrorAssert};
  lock const guard(state().mutex);
  bool const lasts = std::find(std::begin(lasting), std::end(lasting), status) != std::end(lasting);
  if (lasts && state().broken == cudaSuccess) state().broken = status;
  return status;
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

}  // namespace device_double
