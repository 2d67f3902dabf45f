#pragma once
#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <loraga/core/error.hpp>
#include <memory>
#include <utility>

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
inline void check(cublasStatus_t e, char const* call) {
  if (e != CUBLAS_STATUS_SUCCESS) raise_status(call, e, cublasGetStatusString(e));
}
inline void check(cusolverStatus_t e, char const* call) {
  if (e != CUSOLVER_STATUS_SUCCESS) raise_status(call, e, "see cusolverStatus_t");
}

/// A stream with the device it belongs to; shared with all memory that was taken on it, which is given back on it.
class stream {
  cudaStream_t stream_ = nullptr;
  bool owned_;
  int device_ = 0;

 public:
  stream() : owned_(true) {
    check(cudaGetDevice(&device_), "cudaGetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  explicit stream(cudaStream_t borrowed) : stream_(borrowed), owned_(false) {
    check(cudaGetDevice(&device_), "cudaGetDevice");
  }
  ~stream() {
    if (owned_) cudaStreamDestroy(stream_);
  }
  stream(stream const&) = delete;
  stream& operator=(stream const&) = delete;
  cudaStream_t get() const { return stream_; }
  int device() const { return device_; }
};

/// Makes a device current, and the one before again at its end.
class device_scope {
  int before_ = -1;

 public:
  explicit device_scope(int device) noexcept {
    if (cudaGetDevice(&before_) != cudaSuccess || before_ == device || cudaSetDevice(device) != cudaSuccess)
      before_ = -1;
  }
  ~device_scope() {
    if (before_ >= 0) cudaSetDevice(before_);
  }
  device_scope(device_scope const&) = delete;
  device_scope& operator=(device_scope const&) = delete;
};

struct free_on_stream {
  std::shared_ptr<stream> on;
  void operator()(void* p) const {
    if (on->get()) {
      cudaFreeAsync(p, on->get());
    } else {
      device_scope const here(on->device());  // the default stream is that of the current device
      cudaFreeAsync(p, nullptr);
    }
  }
};
struct free_pinned {
  void operator()(void* p) const { cudaFreeHost(p); }
};

/// A point in a stream's work.
class event {
  cudaEvent_t event_ = nullptr;

 public:
  event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags"); }
  ~event() { cudaEventDestroy(event_); }
  event(event const&) = delete;
  event& operator=(event const&) = delete;
  cudaEvent_t get() const { return event_; }
};

/// A library's handle, owned or borrowed.
template <class H>
class handle {
  H handle_ = nullptr;
  bool owned_ = false;
  static void create(cublasHandle_t* h) { check(cublasCreate(h), "cublasCreate"); }
  static void create(cusolverDnHandle_t* h) { check(cusolverDnCreate(h), "cusolverDnCreate"); }
  static void create(cusolverDnParams_t* h) { check(cusolverDnCreateParams(h), "cusolverDnCreateParams"); }
  static void destroy(cublasHandle_t h) { cublasDestroy(h); }
  static void destroy(cusolverDnHandle_t h) { cusolverDnDestroy(h); }
  static void destroy(cusolverDnParams_t h) { cusolverDnDestroyParams(h); }

 public:
  handle() : owned_(true) { create(&handle_); }
  explicit handle(H borrowed) : handle_(borrowed) {}
  ~handle() {
    if (owned_) destroy(handle_);
  }
  handle(handle const&) = delete;
  handle& operator=(handle const&) = delete;
  H get() const { return handle_; }
  bool owned() const { return owned_; }
};

}  // namespace loraga::gpu
