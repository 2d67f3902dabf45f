#pragma once
#include "bookkeeping.hpp"

// What the double's runtime functions share.

namespace device_double {

/// Keeps a failure for cudaGetLastError.
cudaError_t remember(cudaError_t e);
/// For calls that may not be captured: true, and the capture is spoilt, if the stream is being captured.
bool breaks_capture(cudaStream_t stream);
/// For calls that touch the whole device: true, and captures are spoilt, if one is on that forbids them.
bool disturbs_capture();

template <class F>
cudaError_t run(char const* function, F const& body) {
  int const asked = enter(function);
  return remember(asked != 0 ? static_cast<cudaError_t>(asked) : body());
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
