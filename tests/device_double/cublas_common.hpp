#pragma once
#include <cublas_v2.h>

#include <Eigen/Dense>
#include <cstring>

#include "streams.hpp"

// What the double's cuBLAS functions share.

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

namespace device_double {

using std::int64_t;

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
auto view(void const* p, int64_t rows, int64_t cols, int64_t ld) {
  return Eigen::Map<matrix<T> const, 0, Eigen::OuterStride<>>(static_cast<T const*>(p), rows, cols,
                                                              Eigen::OuterStride<>(ld));
}

inline bool computes_on_device(std::string_view function) {
  return function.find("Batched") != function.npos || function.find("emm") != function.npos ||
         function.find("syrk") != function.npos;
}
template <class F>
cublasStatus_t run(cublasHandle_t handle, char const* function, F const& body) {
  if (int const asked = enter(function); asked != 0) return library_failed(), static_cast<cublasStatus_t>(asked);
  if (device_state() != cudaSuccess && computes_on_device(function)) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (alive(handle)) return body();
  complain("the handle is not alive");
  return CUBLAS_STATUS_NOT_INITIALIZED;
}

/// Whether what the handle refers to is still there.
inline bool ready(cublasHandle_t handle) {
  bool const stream = stream_alive(handle->stream);
  bool const memory = handle->workspace == nullptr || inside(where::device, handle->workspace, handle->workspace_bytes);
  if (!stream) complain("the handle's stream is not alive");
  if (!memory) complain("the handle's workspace has been freed");
  return stream && memory;
}

/// A scalar from where the handle's pointer mode says.
template <class T>
std::optional<T> scalar(cublasHandle_t handle, void const* p) {
  if (touches_device(p, sizeof(T)) != (handle->pointers == CUBLAS_POINTER_MODE_DEVICE)) {
    complain("a scalar is not where the pointer mode says");
    return {};
  }
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline bool is_list(char const* name, void const* list, int64_t count) {
  operands one;
  one.reads({name, list, count, 1, count, sizeof(void*)});
  return one.good();
}

}  // namespace device_double
