#include <cstring>
#include <mutex>

#include "cudart_common.hpp"

using namespace device_double;

void* device_double::take_on(cudaStream_t stream, std::size_t bytes, cudaMemPool_t pool) {
  void* const p = take(where::device, bytes, pool);
  if (p != nullptr && is_delayed()) push(stream, [=] { std::memset(p, 0xFF, bytes); });
  return p;
}

namespace {

std::mutex answer_mutex;
std::function<void(void*, std::size_t, std::size_t)> answer;

cudaError_t allocate(where space, void** p, std::size_t bytes) {
  if (p == nullptr) return cudaErrorInvalidValue;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = take(space, bytes);
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
bool retired(where space, void* p) {
  if (retire(space, p)) return true;
  complain("the address was not allocated there, or was freed before");
  return false;
}
/// Waits for the device, as freeing does that knows no stream.
cudaError_t release(where space, void* p) {
  if (p == nullptr) return cudaSuccess;
  finish_all();
  if (!retired(space, p)) return cudaErrorInvalidValue;
  return discard(p), cudaSuccess;
}

bool side_is_right(strided const& side, bool device) {
  bool const right = device ? inside(where::device, side.pointer(), side.span())
                            : side.data != 0 && !touches_device(side.pointer(), side.span());
  if (!right)
    complain(std::string(side.name) + (device ? " is not in one live device allocation" : " is not host memory"));
  return right;
}

void move_bytes(strided const& to, strided const& from) {
  for (std::size_t i = 0; i < to.count; ++i)
    std::memcpy(reinterpret_cast<void*>(to.data + i * to.pitch), reinterpret_cast<void*>(from.data + i * from.pitch),
                to.width);
}
strided packed(std::vector<std::byte> const& bytes, strided s) {
  s.data = reinterpret_cast<std::uintptr_t>(bytes.data());
  s.pitch = s.width;
  return s;
}
/// A host's memory gets what the test wants it to find.
void be_answered(strided const& to) {
  std::lock_guard const guard(answer_mutex);
  bool const whole = to.pitch == to.width || to.count == 1;
  for (std::size_t i = 0; i < (whole ? 1 : to.count); ++i) {
    auto* const p = reinterpret_cast<void*>(to.data + i * to.pitch);
    std::size_t const pieces = whole ? to.count : 1;
    if (answer) answer(p, to.width, pieces);
    else std::memset(p, 0, to.width * pieces);
  }
}

cudaError_t copy(strided const& to, strided const& from, cudaMemcpyKind kind, cudaStream_t stream) {
  if (to.empty()) return cudaSuccess;
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  bool const guess = kind == cudaMemcpyDefault;
  bool const to_device = guess ? touches_device(to.pointer(), to.span())
                               : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool const from_device = guess ? touches_device(from.pointer(), from.span())
                                 : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (!side_is_right(to, to_device) || !side_is_right(from, from_device)) return cudaErrorInvalidValue;
  if (to.overlaps(from)) {
    complain("source and destination overlap");
    return cudaErrorInvalidValue;
  }
  auto const pageable = [](strided const& s, bool device) {
    return !device && !inside(where::pinned, s.pointer(), s.span());
  };
  if ((pageable(to, to_device) || pageable(from, from_device)) && breaks_capture(stream))
    return cudaErrorStreamCaptureUnsupported;
  bool const waits = pageable(to, to_device), keeps = pageable(from, from_device);
  count({.copies = 1, .waits = waits, .copied_bytes = static_cast<double>(to.width * to.count)});
  if (is_dry()) return to_device ? cudaSuccess : (be_answered(to), cudaSuccess);
  if (waits) return finish(stream), move_bytes(to, from), device_state();
  if (!keeps || !is_delayed()) return hand_over(stream, [=] { move_bytes(to, from); }), cudaSuccess;
  std::vector<std::byte> held(from.width * from.count);  // ordinary memory is read before the call returns
  move_bytes(packed(held, from), from);
  push(stream, [=, held = std::move(held)] { move_bytes(to, packed(held, from)); });
  return cudaSuccess;
}
strided bytes(char const* name, void const* p, std::size_t n) {
  return {name, p, static_cast<std::int64_t>(n), 1, static_cast<std::int64_t>(n), 1};
}

}  // namespace

void device_double::dry_answers(std::function<void(void*, std::size_t, std::size_t)> f) {
  std::lock_guard const guard(answer_mutex);
  answer = std::move(f);
}

extern "C" {

cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  return run_on(__func__, stream, [&] {
    if (!retired(where::device, p)) return cudaErrorInvalidValue;
    return in_turn(stream, [=] { discard(p); }), cudaSuccess;
  });
}
cudaError_t cudaMalloc(void** p, std::size_t size) {
  return run(__func__,
             [&] { return disturbs_capture() ? cudaErrorStreamCaptureUnsupported : allocate(where::device, p, size); });
}
cudaError_t cudaFree(void* p) {
  return run(__func__, [&] {
    if (disturbs_capture()) return cudaErrorStreamCaptureUnsupported;
    return release(where::device, p);
  });
}
cudaError_t cudaMallocHost(void** p, std::size_t size) {
  return run(__func__,
             [&] { return disturbs_capture() ? cudaErrorStreamCaptureUnsupported : allocate(where::pinned, p, size); });
}
cudaError_t cudaHostAlloc(void** p, std::size_t size, unsigned) {
  return run(__func__,
             [&] { return disturbs_capture() ? cudaErrorStreamCaptureUnsupported : allocate(where::pinned, p, size); });
}
cudaError_t cudaFreeHost(void* p) {
  return run(__func__, [&] { return release(where::pinned, p); });
}

cudaError_t cudaMemcpy(void* to, void const* from, std::size_t count, cudaMemcpyKind kind) {
  return run(__func__, [&] {
    if (disturbs_capture()) return cudaErrorStreamCaptureUnsupported;
    auto const e = copy(bytes("destination", to, count), bytes("source", from, count), kind, nullptr);
    return e == cudaSuccess ? (finish(cudaStream_t{nullptr}), device_state()) : e;
  });
}
cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t count, cudaMemcpyKind kind, cudaStream_t stream) {
  return run_on(__func__, stream,
                [&] { return copy(bytes("destination", to, count), bytes("source", from, count), kind, stream); });
}
cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  return run_on(__func__, stream, [&] {
    if (to_pitch < width || from_pitch < width) return cudaErrorInvalidPitchValue;
    auto const n = [](std::size_t x) { return static_cast<std::int64_t>(x); };
    return copy({"destination", to, n(width), n(height), n(to_pitch), 1},
                {"source", from, n(width), n(height), n(from_pitch), 1}, kind, stream);
  });
}
cudaError_t cudaMemsetAsync(void* p, int value, std::size_t count, cudaStream_t stream) {
  return run_on(__func__, stream, [&] {
    if (count == 0) return cudaSuccess;
    if (!side_is_right(bytes("destination", p, count), true)) return cudaErrorInvalidValue;
    device_double::count({.copies = 1});
    return hand_over(stream, [=] { std::memset(p, value, count); }), cudaSuccess;
  });
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* found, void const* p) {
  return run(__func__, [&] {
    *found = {};
    auto* const address = const_cast<void*>(p);
    if (inside(where::device, p, 1)) found->type = cudaMemoryTypeDevice;
    else found->type = inside(where::pinned, p, 1) ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    found->device = found->type == cudaMemoryTypeUnregistered ? cudaInvalidDeviceId : 0;
    if (found->type != cudaMemoryTypeUnregistered) found->devicePointer = address;
    if (found->type != cudaMemoryTypeDevice) found->hostPointer = address;
    return cudaSuccess;
  });
}

}  // extern "C"
