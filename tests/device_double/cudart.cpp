#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

#include "cudart_common.hpp"

using namespace device_double;

struct CUgraph_st {};
struct CUevent_st {
  bool timed = true, recorded = false;
  point where;
  std::chrono::steady_clock::time_point when;
};

namespace {

struct capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool valid = true;
};
std::mutex mutex;  // of captures and of what is in events
std::map<cudaStream_t, capture> captures;
thread_local cudaError_t last_error = cudaSuccess;

/// What a host function that never runs would have given back: kept, not lost.
void keep(void* data) {
  static auto& all = *new std::vector<void*>;
  std::lock_guard const guard(mutex);
  all.push_back(data);
}
point where_of(cudaEvent_t event) {
  std::lock_guard const guard(mutex);
  return event->where;
}
struct error_text {
  cudaError_t code;
  char const *name, *text;
};
error_text describe(cudaError_t code) {
  static constexpr error_text known[] = {
      {cudaSuccess, "cudaSuccess", "no error"},
      {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
      {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
      {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
      {cudaErrorInvalidMemcpyDirection, "cudaErrorInvalidMemcpyDirection", "invalid copy direction for memcpy"},
      {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
      {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
      {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
      {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
      {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
      {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
      {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
       "operation not permitted when stream is capturing"},
      {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
       "operation failed due to a previous error during capture"},
      {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
       "attempt to terminate a thread-local capture sequence from another thread"},
      {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
  };
  for (error_text const& e : known)
    if (e.code == code) return e;
  return {code, "unrecognized error code", "unrecognized error code"};
}

}  // namespace

namespace device_double {

cudaError_t remember(cudaError_t e) {
  if (e != cudaSuccess) last_error = e;
  return e;
}
void library_failed() { remember(cudaErrorUnknown); }
bool breaks_capture(cudaStream_t stream) {
  std::lock_guard const guard(mutex);
  auto const found = captures.find(stream);
  if (found == captures.end()) return false;
  return found->second.valid = false, true;
}
bool disturbs_capture() {
  std::lock_guard const guard(mutex);
  bool any = false;
  for (auto& [stream, c] : captures) {
    bool const mine = c.thread == std::this_thread::get_id();
    bool const disturbed =
        c.mode == cudaStreamCaptureModeGlobal || (c.mode == cudaStreamCaptureModeThreadLocal && mine);
    if (disturbed) c.valid = false;
    any = any || disturbed;
  }
  return any;
}

}  // namespace device_double

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  return run(__func__, [&] { return *device = 0, cudaSuccess; });
}
cudaError_t cudaSetDevice(int device) {
  return run(__func__, [&] { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; });
}
cudaError_t cudaGetDeviceCount(int* count) {
  return run(__func__, [&] { return *count = 1, cudaSuccess; });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  return run(__func__, [&] {
    if (device != 0) return cudaErrorInvalidDevice;
    static std::map<cudaDeviceAttr, int> const known{{cudaDevAttrWarpSize, 32},
                                                     {cudaDevAttrMaxThreadsPerBlock, 1024},
                                                     {cudaDevAttrMultiProcessorCount, 132},
                                                     {cudaDevAttrComputeCapabilityMajor, 9},
                                                     {cudaDevAttrComputeCapabilityMinor, 0},
                                                     {cudaDevAttrUnifiedAddressing, 1},
                                                     {cudaDevAttrMemoryPoolsSupported, 1}};
    auto const found = known.find(attribute);
    *value = found == known.end() ? 0 : found->second;  // so kernels cannot read ordinary host memory
    return cudaSuccess;
  });
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return run(__func__, [&] {
    if (device != 0) return cudaErrorInvalidDevice;
    *properties = {};
    std::strcpy(properties->name, "test double");
    properties->major = 9;
    properties->multiProcessorCount = 132;
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->totalGlobalMem = std::size_t{1} << 36;
    return cudaSuccess;
  });
}
cudaError_t cudaDeviceSynchronize() {
  count({.waits = 1});
  return run(__func__, [] {
    if (disturbs_capture()) return cudaErrorStreamCaptureUnsupported;
    return finish_all(), device_state();
  });
}
cudaError_t cudaGetLastError() {
  int const asked = enter(__func__);
  cudaError_t const before = asked != 0 ? static_cast<cudaError_t>(asked) : last_error;
  last_error = device_state();
  return before;
}
cudaError_t cudaPeekAtLastError() {
  int const asked = enter(__func__);
  return asked != 0 ? static_cast<cudaError_t>(asked) : last_error;
}
char const* cudaGetErrorString(cudaError_t code) { return describe(code).text; }
char const* cudaGetErrorName(cudaError_t code) { return describe(code).name; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return run(__func__, [&] {
    *stream = create<CUstream_st>();
    (*stream)->work = new_queue((flags & cudaStreamNonBlocking) == 0);
    return cudaSuccess;
  });
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return run(__func__, [&] {
    if (!destroy(stream)) return complain("the stream is not alive"), cudaErrorInvalidResourceHandle;
    stream->work = nullptr;  // its work runs all the same
    std::lock_guard const guard(mutex);
    captures.erase(stream);
    return cudaSuccess;
  });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return run_on(__func__, stream, [&] {
    count({.kernels = 1});
    if (is_dry()) keep(data);
    hand_over(stream, [=] { function(data); });
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  count({.waits = 1});
  return run_on(__func__, stream, [&] {
    if (breaks_capture(stream)) return cudaErrorStreamCaptureUnsupported;
    return finish(stream), device_state();
  });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return run_on(__func__, stream, [&] {
    if (breaks_capture(stream)) return cudaErrorStreamCaptureUnsupported;
    advance(stream);  // who asks until it is done gets there
    return reached(end_of(stream)) ? device_state() : cudaErrorNotReady;
  });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return run_on(__func__, stream, [&] {
    if (!alive(event)) return complain("the event is not alive"), cudaErrorInvalidResourceHandle;
    point const p = where_of(event);
    return wait_for(stream, p), cudaSuccess;
  });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return run_on(__func__, stream, [&] {
    std::lock_guard const guard(mutex);
    auto const found = captures.find(stream);
    *status = found == captures.end() ? cudaStreamCaptureStatusNone
              : found->second.valid   ? cudaStreamCaptureStatusActive
                                      : cudaStreamCaptureStatusInvalidated;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return run_on(__func__, stream, [&] {
    if (stream == nullptr || stream == cudaStreamLegacy) return cudaErrorStreamCaptureUnsupported;
    std::lock_guard const guard(mutex);
    bool const first = captures.insert({stream, {mode, std::this_thread::get_id()}}).second;
    return first ? cudaSuccess : cudaErrorIllegalState;
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return run_on(__func__, stream, [&] {
    std::lock_guard const guard(mutex);
    *graph = nullptr;
    auto const found = captures.find(stream);
    if (found == captures.end()) return cudaErrorIllegalState;
    capture const c = found->second;
    if (c.mode != cudaStreamCaptureModeRelaxed && c.thread != std::this_thread::get_id())
      return cudaErrorStreamCaptureWrongThread;
    captures.erase(found);
    if (!c.valid) return cudaErrorStreamCaptureInvalidated;
    return *graph = create<CUgraph_st>(), cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return run(__func__, [&] { return destroy(graph) ? cudaSuccess : cudaErrorInvalidValue; });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return run(__func__, [&] {
    *event = create<CUevent_st>();
    (*event)->timed = (flags & cudaEventDisableTiming) == 0;
    return cudaSuccess;
  });
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return run_with(__func__, event, [&] { return destroy(event), cudaSuccess; });
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return run_with(__func__, event, [&] {
    if (!stream_alive(stream)) return complain("the stream is not alive"), cudaErrorInvalidResourceHandle;
    in_turn(stream, [=] {
      std::lock_guard const guard(mutex);
      event->when = std::chrono::steady_clock::now();
    });
    point const p = end_of(stream);
    std::lock_guard const guard(mutex);
    event->recorded = true;
    event->where = p;
    return cudaSuccess;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  count({.waits = 1});
  return run_with(__func__, event, [&] {
    point const p = where_of(event);
    return finish(p), device_state();
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return run_with(__func__, start, [&] {
    if (!alive(end)) return complain("the event is not alive"), cudaErrorInvalidResourceHandle;
    std::lock_guard const guard(mutex);
    for (CUevent_st const* e : {start, end}) {
      if (!e->timed || !e->recorded) return cudaErrorInvalidResourceHandle;
      if (!reached(e->where)) return cudaErrorNotReady;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->when - start->when).count();
    return cudaSuccess;
  });
}

}  // extern "C"
