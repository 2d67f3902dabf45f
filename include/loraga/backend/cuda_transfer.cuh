#pragma once
#include <loraga/backend/checks.hpp>
#include <loraga/backend/cuda_handles.cuh>
#include <loraga/core/workspace.hpp>

// Copies between host and device.

namespace loraga::gpu {

/// What copies take: elements of one type, a destination that may be written, and the device on at least one side.
template <class S, class D>
concept Copyable = ViewIn<S, typename S::space> && MutableViewIn<D, typename D::space> &&
    std::same_as<typename S::value_type, typename D::value_type> &&
    (std::same_as<typename S::space, device_space> || std::same_as<typename D::space, device_space>);

/// Throws value_error if a view is tagged as device memory and its pointer is ordinary host memory, or the other way
/// round: the type is what the caller said, and a kernel would fail on it much later.
template <class V>
void require_space(V const& v, std::string_view where, std::string_view argument) {
  cudaPointerAttributes found{};
  check(cudaPointerGetAttributes(&found, v.data), "cudaPointerGetAttributes");
  if constexpr (std::is_same_v<typename V::space, device_space>) {
    int device = 0, reads_host_memory = 0;
    if (found.type != cudaMemoryTypeUnregistered) return;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&reads_host_memory, cudaDevAttrPageableMemoryAccess, device),
          "cudaDeviceGetAttribute");
    if (!reads_host_memory) raise<value_error>(where, argument, "in host memory", "device memory, as its type says");
  } else if (found.type == cudaMemoryTypeDevice) {
    raise<value_error>(where, argument, "in device memory", "host memory, as its type says");
  }
}

/// dst = src for views that both have contiguous columns.
template <class S, class D>
void transfer_columns(cudaStream_t stream, S src, D dst) {
  using T = typename D::value_type;
  auto const kind = std::is_same_v<typename S::space, host_space> ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost;
  auto const bytes = [](index_t n) { return static_cast<std::size_t>(n) * sizeof(T); };
  if (dst.cols == 1 || (src.col_stride == src.rows && dst.col_stride == dst.rows))
    return check(cudaMemcpyAsync(dst.data, src.data, bytes(src.rows * src.cols), kind, stream), "cudaMemcpyAsync");
  check(cudaMemcpy2DAsync(dst.data, bytes(leading_dimension(dst)), src.data, bytes(leading_dimension(src)),
                          bytes(src.rows), static_cast<std::size_t>(src.cols), kind, stream),
        "cudaMemcpy2DAsync");
}

/// dst = src between host and device, whatever their layouts: where they differ the device rearranges.
template <class B, class S, class D>
void transfer(B& be, S src, D dst) {
  constexpr bool to_host = std::is_same_v<typename D::space, host_space>;
  auto const host = [&] {
    if constexpr (to_host) return dst;
    else return src;
  }();
  require_matrix(host, "cuda::copy", to_host ? "destination" : "source");
  if (!by_columns(host)) return transfer(be, src.transposed(), dst.transposed());
  using T = typename D::value_type;
  scratch<B> temporary(be);
  if constexpr (to_host) {
    if (by_columns(src)) return transfer_columns(be.stream(), src, dst);
    auto const packed = temporary.template matrix<T>(src.rows, src.cols);
    be.copy(src, packed);
    transfer_columns(be.stream(), packed, dst);
  } else {
    if (by_columns(dst)) return transfer_columns(be.stream(), src, dst);
    auto const packed = temporary.template matrix<T>(src.rows, src.cols);
    transfer_columns(be.stream(), src, packed);
    be.copy(packed, dst);
  }
}

}  // namespace loraga::gpu
