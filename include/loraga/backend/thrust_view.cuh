#pragma once
#include <thrust/device_vector.h>

#include <loraga/core/view.hpp>

namespace loraga {

namespace gpu {
template <class T>
auto vector_view(T* p, std::size_t size, index_t rows, index_t cols) {
  auto v = col_major<device_space>(p, rows, cols);
  require_strides(p == nullptr, rows, cols, v.row_stride, v.col_stride, "view", "vector");
  if (static_cast<std::size_t>(rows * cols) > size)
    raise<shape_error>("view", "vector", std::to_string(size) + " elements", "at least " + shape_text(rows, cols));
  return v;
}
}  // namespace gpu

/// A Thrust vector as a column-major matrix; no copy. `.transposed()` of a cols x rows one for row-major data.
/// errors  shape_error if it holds too few elements
template <class T, class A>
auto view(thrust::device_vector<T, A>& v, index_t rows, index_t cols) {
  return gpu::vector_view(thrust::raw_pointer_cast(v.data()), v.size(), rows, cols);
}
template <class T, class A>
auto view(thrust::device_vector<T, A> const& v, index_t rows, index_t cols) {
  return gpu::vector_view(thrust::raw_pointer_cast(v.data()), v.size(), rows, cols);
}

}  // namespace loraga
