#pragma once
#include <ATen/core/Tensor.h>

#include <loraga/core/float16.hpp>
#include <loraga/linalg/unfold.hpp>
#include <optional>

// Views of LibTorch's tensors. Nothing of a tensor is copied here, and only ATen's Tensor is included.
// The namespace is not called torch: inside of loraga that name would hide LibTorch's own.

namespace loraga::libtorch {

/// What LibTorch calls an element type.
template <Element T>
inline constexpr at::ScalarType scalar_type = std::is_same_v<T, double>  ? at::kDouble
                                              : std::is_same_v<T, float> ? at::kFloat
                                              : std::is_same_v<T, bf16>  ? at::kBFloat16
                                                                         : at::kHalf;
/// Where LibTorch's tensors of a memory space lie.
template <class Space>
inline constexpr c10::DeviceType device_type = std::is_same_v<Space, host_space> ? c10::kCPU : c10::kCUDA;

/// Calls f(T{}) for the element type of a tensor that is known when the program runs only.
/// errors  value_error naming `where` and `name` for other types
template <class F>
decltype(auto) with_element(at::Tensor const& t, std::string_view where, std::string_view name, F&& f) {
  switch (t.scalar_type()) {
    case at::kDouble:
      return f(double{});
    case at::kFloat:
      return f(float{});
    case at::kBFloat16:
      return f(bf16{});
    case at::kHalf:
      return f(fp16{});
    default:
      raise<value_error>(where, name, "of " + std::string(c10::toString(t.scalar_type())),
                         "Double, Float, BFloat16 or Half");
  }
}

/// "[2, 3, 4] with strides [12, 4, 1]", for messages.
inline std::string tensor_text(at::Tensor const& t) {
  auto const list = [](at::IntArrayRef numbers) {
    std::string s = "[";
    for (auto const n : numbers) s += (s.size() > 1 ? ", " : "") + std::to_string(n);
    return s + "]";
  };
  return list(t.sizes()) + " with strides " + list(t.strides());
}

/// Throws unless t is a plain tensor of these elements in that memory.
/// errors  value_error naming `where` and `name`
template <class Space>
void require_tensor(at::Tensor const& t, at::ScalarType type, std::string_view where, std::string_view name) {
  if (!t.defined()) raise<value_error>(where, name, "undefined", "a tensor");
  if (t.layout() != at::kStrided) raise<value_error>(where, name, "sparse or packed", "strided (dense)");
  if (t.device().type() != device_type<Space>)
    raise<value_error>(where, name, "on " + t.device().str(),
                       std::is_same_v<Space, host_space> ? "on the CPU" : "on a CUDA device");
  if (t.scalar_type() != type)
    raise<value_error>(where, name, "of " + std::string(c10::toString(t.scalar_type())), c10::toString(type));
  if (t.is_neg()) raise<value_error>(where, name, "a lazily negated view", "plain numbers: call resolve_neg()");
}

namespace detail {

/// The last dimension as rows, all leading ones as columns; nothing where these have no single stride.
template <class T, class Space>
std::optional<matrix_view<T, Space>> last_dimension_by_rows(at::Tensor const& t) {
  auto const last = t.dim() - 1;
  index_t const rows = t.size(last);
  if (t.numel() == 0) {
    index_t tokens = 1;
    for (auto i = last - 1; i >= 0; --i) tokens *= t.size(i);
    return matrix_view<T, Space>(nullptr, rows, tokens, 1, std::max<index_t>(rows, 1));
  }
  index_t cols = 1, step = 0;
  for (auto i = last - 1; i >= 0; --i) {
    if (t.size(i) == 1) continue;
    if (cols == 1) step = t.stride(i);
    else if (t.stride(i) != step * cols) return {};
    cols *= t.size(i);
  }
  index_t const row_stride = rows == 1 ? 1 : t.stride(last);
  return matrix_view<T, Space>(static_cast<T*>(t.data_ptr()), rows, cols, row_stride, cols == 1 ? rows : step);
}

/// The same of images; nothing where a row of pixels does not follow the one before.
template <class T, class Space>
std::optional<image_view<T, Space>> images_of(at::Tensor const& t) {
  auto const first = t.dim() - 3;
  index_t const count = first == 1 ? t.size(0) : 1;
  index_t const c = t.size(first), h = t.size(first + 1), w = t.size(first + 2);
  index_t const pixel = w > 1 ? t.stride(first + 2) : h > 1 ? t.stride(first + 1) : 1;
  if (h > 1 && w > 1 && t.stride(first + 1) != w * pixel) return {};
  index_t const channel = c > 1 ? t.stride(first) : pixel == 1 ? h * w : 1;
  index_t const image = count > 1 ? t.stride(0) : c * h * w;
  return image_view<T, Space>(static_cast<T*>(t.data_ptr()), count, c, h, w, image, channel, pixel);
}

}  // namespace detail

/// A matrix of two dimensions, with its own strides.
/// errors  value_error as require_tensor; shape_error for other dimensions, or strides of which none is 1 or that
///         overlap (an expanded tensor)
template <Element T, class Space = host_space>
matrix_view<T, Space> view(at::Tensor const& t, std::string_view where = "libtorch::view",
                           std::string_view name = "tensor") {
  require_tensor<Space>(t, scalar_type<T>, where, name);
  if (t.dim() != 2) raise<shape_error>(where, name, tensor_text(t), "a matrix: two dimensions");
  auto const step = [&](int i) { return t.size(i) == 1 && t.size(1 - i) != 1 ? t.size(1 - i) : t.stride(i); };
  matrix_view<T, Space> const v(static_cast<T*>(t.data_ptr()), t.size(0), t.size(1), step(0), step(1));
  require_matrix(v, where, name);
  return v;
}

/// Activations: the last dimension are features, all leading ones tokens.
/// shapes  features x tokens
/// errors  value_error as require_tensor; shape_error for a number, or where the leading dimensions have no single
///         stride or overlap: transposed batches, expanded tensors. `.contiguous()` of those can be viewed
template <Element T, class Space = host_space>
matrix_view<T, Space> flattened(at::Tensor const& t, std::string_view where = "libtorch::flattened",
                                std::string_view name = "tensor") {
  require_tensor<Space>(t, scalar_type<T>, where, name);
  if (t.dim() < 1) raise<shape_error>(where, name, "a single number", "at least one dimension, of features");
  auto const v = detail::last_dimension_by_rows<T, Space>(t);
  if (!v || !strides_of_matrix(v->rows, v->cols, v->row_stride, v->col_stride))
    raise<shape_error>(where, name, tensor_text(t), "tokens of one stride, none over another: call contiguous()");
  return *v;
}

/// Images: [count, channels, height, width], or one of them without the first, in either memory format.
/// errors  value_error as require_tensor; shape_error for other dimensions, or where a row of pixels does not follow
///         the one before
template <Element T, class Space = host_space>
image_view<T, Space> images(at::Tensor const& t, std::string_view where = "libtorch::images",
                            std::string_view name = "tensor") {
  require_tensor<Space>(t, scalar_type<T>, where, name);
  if (t.dim() != 3 && t.dim() != 4)
    raise<shape_error>(where, name, tensor_text(t), "[count, channels, height, width], or without count");
  auto const v = detail::images_of<T, Space>(t);
  if (!v) raise<shape_error>(where, name, tensor_text(t), "rows of pixels one behind the other: call contiguous()");
  require_images(*v, v->count, v->channels, v->height, v->width, where, name);
  return *v;
}

/// The tensor itself where `look(t)` makes a view of it, else a contiguous copy. What is wrong beside the strides is
/// refused when the copy is viewed.
template <class F>
at::Tensor viewable(at::Tensor const& t, F const& look) {
  if (t.is_contiguous()) return t;
  try {
    look(t);
    return t;
  } catch (shape_error const&) {
    return t.clone(at::MemoryFormat::Contiguous);
  }
}

/// Tells autograd that t was written behind its back: what saved it for backward then refuses to go on.
inline void bump(at::Tensor const& t) {
  if (!t.is_inference()) t.unsafeGetTensorImpl()->bump_version();
}

}  // namespace loraga::libtorch
