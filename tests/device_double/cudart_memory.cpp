#include <cstring>

#include "cudart_common.hpp"

using namespace device_double;

namespace {

cudaError_t allocate(where space, void** p, std::size_t bytes) {
  if (p == nullptr) return cudaErrorInvalidValue;
  *p = nullptr;
  if (bytes == 0) return cudaSuccess;
  *p = take(space, bytes);
  return *p != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
cudaError_t release(where space, void* p) {
  if (give_back(space, p)) return cudaSuccess;
  complain("the address was not allocated there, or was freed before");
  return cudaErrorInvalidValue;
}

bool side_is_right(strided const& side, bool device) {
  bool const right = device ? inside(where::device, side.pointer(), side.span())
                            : side.data != 0 && !touches_device(side.pointer(), side.span());
  if (!right)
    complain(std::string(side.name) + (device ? " is not in one live device allocation" : " is not host memory"));
  return right;
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
  bool const waited = pageable(to, to_device);
  count({.copies = 1, .waits = waited, .copied_bytes = static_cast<double>(to.width * to.count)});
  for (std::size_t i = 0; i < to.count; ++i)
    std::memcpy(reinterpret_cast<void*>(to.data + i * to.pitch), reinterpret_cast<void*>(from.data + i * from.pitch),
                to.width);
  return cudaSuccess;
}
strided bytes(char const* name, void const* p, std::size_t n) {
  return {name, p, static_cast<std::int64_t>(n), 1, static_cast<std::int64_t>(n), 1};
}

}  // namespace

extern "C" {

cudaError_t cudaMallocAsync(void** p, std::size_t size, cudaStream_t stream) {
  return run_on(__func__, stream, [&] { return size == 0 ? cudaErrorInvalidValue : allocate(where::device, p, size); });
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t stream) {
  return run_on(__func__, stream, [&] { return release(where::device, p); });
}
cudaError_t cudaMalloc(void** p, std::size_t size) {
  return run(__func__,
             [&] { return disturbs_capture() ? cudaErrorStreamCaptureUnsupported : allocate(where::device, p, size); });
}
cudaError_t cudaFree(void* p) {
  return run(__func__, [&] {
    if (disturbs_capture()) return cudaErrorStreamCaptureUnsupported;
    return p == nullptr ? cudaSuccess : release(where::device, p);
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
  return run(__func__, [&] { return p == nullptr ? cudaSuccess : release(where::pinned, p); });
}

cudaError_t cudaMemcpy(void* to, void const* from, std::size_t count, cudaMemcpyKind kind) {
  return run(__func__, [&] {
    if (disturbs_capture()) return cudaErrorStreamCaptureUnsupported;
    return copy(bytes("destination", to, count), bytes("source", from, count), kind, nullptr);
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
    return std::memset(p, value, count), cudaSuccess;
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
