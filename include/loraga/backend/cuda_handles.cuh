#pragma once
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <loraga/core/error.hpp>
#include <memory>
#include <new>
#include <utility>
#include <vector>

// Everything CUDA gives that must be given back, each as an owner; and every status as an exception.

namespace loraga::gpu {

[[noreturn]] inline void raise_status(std::string_view call, int code, std::string_view meaning) {
  throw backend_error(
      std::string(call) + ": status is " + std::to_string(code) + " (" + std::string(meaning) + "), expected success",
      code);
}
/// Throws backend_error, naming the call, unless its status is success.
inline void check(cudaError_t e, char const* call) {
  if (e == cudaSuccess) return;
  (void)cudaGetLastError();  // the runtime would report it a second time, from an innocent call
  raise_status(call, e, cudaGetErrorString(e));
}
// What a library's call failed of is the runtime's last error as well, and the next launch would be blamed for it.
inline void check(cublasStatus_t e, char const* call) {
  if (e == CUBLAS_STATUS_SUCCESS) return;
  (void)cudaGetLastError();
  raise_status(call, e, cublasGetStatusString(e));
}
inline void check(cusolverStatus_t e, char const* call) {
  if (e == CUSOLVER_STATUS_SUCCESS) return;
  (void)cudaGetLastError();
  raise_status(call, e, "see cusolverStatus_t");
}
/// For destructors, which have nobody to tell: a failure, and only a failure, is taken back from the runtime.
template <class S>
void forget(S status) noexcept {
  if (status != S{}) (void)cudaGetLastError();
}

inline int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// Makes a device current, and the one before again at its end.
class device_scope {
  int before_ = -1;

 public:
  explicit device_scope(int device) noexcept {
    int now = -1;
    cudaError_t failed = cudaGetDevice(&now);
    if (failed == cudaSuccess && now != device) {
      failed = cudaSetDevice(device);
      if (failed == cudaSuccess) before_ = now;
    }
    forget(failed);
  }
  ~device_scope() {
    if (before_ >= 0) forget(cudaSetDevice(before_));
  }
  device_scope(device_scope const&) = delete;
  device_scope& operator=(device_scope const&) = delete;
};

/// A stream with the device it belongs to; shared with all memory that was taken on it, which is given back on it.
class stream {
  cudaStream_t stream_ = nullptr;
  bool owned_;
  int device_ = current_device();
  bool keeps_ = false;
  std::vector<void*> kept_;

 public:
  stream() : owned_(true) {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  explicit stream(cudaStream_t borrowed) : stream_(borrowed), owned_(false) {}
  ~stream() {
    if (!owned_) return;
    device_scope const here(device_);
    forget(cudaStreamDestroy(stream_));
  }
  stream(stream const&) = delete;
  stream& operator=(stream const&) = delete;
  cudaStream_t get() const { return stream_; }
  int device() const { return device_; }

  /// Frees device memory in the order of the stream's work.
  void give_back(void* p) noexcept {
    if (keeps_) try {
        return kept_.push_back(p);
      } catch (std::bad_alloc const&) {
        return;  // lost, because work that was not launched yet may need it
      }
    if (stream_) return forget(cudaFreeAsync(p, stream_));
    device_scope const here(device_);  // the default stream is that of the current device
    forget(cudaFreeAsync(p, nullptr));
  }
  /// While this is on, memory that is given back is kept: for work that is not launched yet.
  void keep(bool on) noexcept {
    keeps_ = on;
    if (on) return;
    for (void* const p : kept_) give_back(p);
    kept_.clear();
  }
};

struct free_on_stream {
  std::shared_ptr<stream> on;
  void operator()(void* p) const { on->give_back(p); }
};
struct free_pinned {
  void operator()(void* p) const { forget(cudaFreeHost(p)); }
};

/// A point in a stream's work.
class event {
  cudaEvent_t event_ = nullptr;
  int device_ = current_device();

 public:
  event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~event() {
    device_scope const here(device_);
    forget(cudaEventDestroy(event_));
  }
  event(event const&) = delete;
  event& operator=(event const&) = delete;
  cudaEvent_t get() const { return event_; }
};

/// A library's handle, owned or borrowed.
template <class H>
class handle {
  H handle_ = nullptr;
  bool owned_ = false;
  int device_ = -1;  // of an owned one
  static void create(cublasHandle_t* h) { check(cublasCreate(h), "cublasCreate"); }
  static void create(cusolverDnHandle_t* h) { check(cusolverDnCreate(h), "cusolverDnCreate"); }
  static void create(cusolverDnParams_t* h) { check(cusolverDnCreateParams(h), "cusolverDnCreateParams"); }
  static void destroy(cublasHandle_t h) { forget(cublasDestroy(h)); }
  static void destroy(cusolverDnHandle_t h) { forget(cusolverDnDestroy(h)); }
  static void destroy(cusolverDnParams_t h) { forget(cusolverDnDestroyParams(h)); }

 public:
  handle() : owned_(true), device_(current_device()) { create(&handle_); }
  explicit handle(H borrowed) : handle_(borrowed) {}
  ~handle() {
    if (!owned_) return;
    device_scope const here(device_);
    destroy(handle_);
  }
  handle(handle const&) = delete;
  handle& operator=(handle const&) = delete;
  H get() const { return handle_; }
  bool owned() const { return owned_; }
};

}  // namespace loraga::gpu
