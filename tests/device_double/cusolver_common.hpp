#pragma once
#include <cusolverDn.h>

#include <Eigen/Dense>
#include <cstring>
#include <limits>

#include "streams.hpp"

// What the double's cuSOLVER functions share.

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};
struct cusolverDnParams {};
struct gesvdjInfo {};

namespace device_double {

using std::int64_t;

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
auto view(T* p, int64_t rows, int64_t cols, int64_t ld) {
  using plain = matrix<std::remove_const_t<T>>;
  using mapped = std::conditional_t<std::is_const_v<T>, plain const, plain>;
  return Eigen::Map<mapped, 0, Eigen::OuterStride<>>(p, rows, cols, Eigen::OuterStride<>(ld));
}
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

/// Whether a function hands work to the device.
inline bool computes(std::string_view function) {
  auto const has = [&](char const* part) { return function.find(part) != std::string_view::npos; };
  return !has("bufferSize") && (has("gesvd") || has("syev") || has("potrf"));
}

/// body() if the handle, and its stream, are alive.
template <class F>
cusolverStatus_t run(cusolverDnHandle_t handle, char const* function, F const& body) {
  if (int const asked = enter(function); asked != 0) return library_failed(), static_cast<cusolverStatus_t>(asked);
  if (device_state() != cudaSuccess && computes(function)) return CUSOLVER_STATUS_EXECUTION_FAILED;
  if (!alive(handle)) return complain("the handle is not alive"), CUSOLVER_STATUS_NOT_INITIALIZED;
  if (!stream_alive(handle->stream))
    return complain("the handle's stream is not alive"), CUSOLVER_STATUS_EXECUTION_FAILED;
  if (computes(function)) count({.solvers = 1});
  return body();
}

inline bool parameters_alive(void const* params) {
  if (alive(params)) return true;
  return complain("params is not alive"), false;
}

/// Room that a bufferSize function promises: never none, so that callers who forget it are found.
inline std::size_t device_room(int64_t rows, int64_t cols, std::size_t element) {
  return static_cast<std::size_t>(rows * cols + rows + cols + 7) * element;
}
inline constexpr std::size_t host_room = 200;

inline bool leading_is(int64_t ld, int64_t rows) { return ld >= std::max<int64_t>(1, rows); }

/// What a call was given to work in. A good one is overwritten: a workspace that is too small or that is also an
/// operand shows in the sanitizer or in the results.
struct workspace {
  void* device;
  std::size_t device_bytes;
  void* host = nullptr;
  std::size_t host_bytes = 0;

  bool holds(std::size_t on_device, std::size_t on_host) const {
    return device_bytes >= on_device && host_bytes >= on_host;
  }
  bool host_good() const {
    if (host_bytes == 0 || (host != nullptr && !touches_device(host, host_bytes))) return true;
    return complain("the host workspace is not in host memory"), false;
  }
  void add_to(operands& all) const {
    auto const n = static_cast<int64_t>(device_bytes);
    all.writes({"the device workspace", device, n, 1, n, 1});
  }
  void use() const {
    std::memset(device, 0xFF, device_bytes);
    if (host_bytes > 0) std::memset(host, 0xFF, host_bytes);
  }
};

/// Dispatch on a type argument: f(T{}) for double or float when all types agree.
template <class F>
cusolverStatus_t with_type(std::initializer_list<cudaDataType> types, F const& f) {
  for (cudaDataType const t : types)
    if (t != *types.begin()) return CUSOLVER_STATUS_INVALID_VALUE;
  if (*types.begin() == CUDA_R_64F) return f(double{});
  if (*types.begin() == CUDA_R_32F) return f(float{});
  return CUSOLVER_STATUS_NOT_SUPPORTED;
}

}  // namespace device_double
