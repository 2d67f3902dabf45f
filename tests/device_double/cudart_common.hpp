#pragma once
#include <string_view>

#include "bookkeeping.hpp"
#include "streams.hpp"

// What the double's runtime functions share.

namespace device_double {

/// Keeps a failure for cudaGetLastError.
cudaError_t remember(cudaError_t e);
/// For calls that may not be captured: true, and the capture is spoilt, if the stream is being captured.
bool breaks_capture(cudaStream_t stream);
/// For calls that touch the whole device: true, and captures are spoilt, if one is on that forbids them.
bool disturbs_capture();

/// Memory whose first user must be behind the stream: the device may still be at work there. Null if there is none.
void* take_on(cudaStream_t stream, std::size_t bytes, cudaMemPool_t pool);

/// Whether a function gives something back: that succeeds on a broken device too.
inline bool gives_back(std::string_view function) {
  auto const has = [&](char const* part) { return function.find(part) != std::string_view::npos; };
  return has("Free") || has("Destroy");
}
template <class F>
cudaError_t run(char const* function, F const& body) {
  int const asked = enter(function);
  if (asked != 0) return remember(break_device(static_cast<cudaError_t>(asked)));
  if (cudaError_t const broken = device_state(); broken != cudaSuccess) {
    if (gives_back(function)) (void)body();
    return remember(broken);
  }
  return remember(body());
}
template <class F>
cudaError_t run_on(char const* function, cudaStream_t stream, F const& body) {
  return run(function, [&] {
    if (stream_alive(stream)) return body();
    complain("the stream is not alive");
    return cudaErrorInvalidResourceHandle;
  });
}
template <class F>
cudaError_t run_with(char const* function, cudaEvent_t event, F const& body) {
  return run(function, [&] {
    if (alive(event)) return body();
    complain("the event is not alive");
    return cudaErrorInvalidResourceHandle;
  });
}

}  // namespace device_double
