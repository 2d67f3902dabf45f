#pragma once
#include <ggml-backend.h>
#include <ggml.h>

#include <loraga/io/gguf_file.hpp>

// Views of ggml's tensors, on the host. ggml counts dimensions from the inside: ne[0] is the size along which numbers
// lie together, nb[i] the bytes from one index of dimension i to the next. So a weight that PyTorch calls out x in has
// ne = (in, out), tokens x features has ne = (features, tokens), and the same bytes are meant.
//
// A view is of memory as it is: of an operation's result before its graph is computed it shows what was there before.

namespace loraga::ggml_bridge {

/// "blk.0.attn_q.weight (F16, ne 64 32 1 1, nb 2 128 4096 4096)", for messages.
inline std::string tensor_text(ggml_tensor const& t) {
  std::string text = std::string(t.name[0] ? t.name : "a tensor") + " (" + ggml_type_name(t.type) + ", ne";
  for (auto const n : t.ne) text += " " + std::to_string(n);
  text += ", nb";
  for (auto const n : t.nb) text += " " + std::to_string(n);
  return text + ")";
}

namespace detail {

/// ggml's element type of a T.
template <Element T>
inline constexpr ggml_type type_of = std::is_same_v<T, float>  ? GGML_TYPE_F32
                                     : std::is_same_v<T, fp16> ? GGML_TYPE_F16
                                     : std::is_same_v<T, bf16> ? GGML_TYPE_BF16
                                                               : GGML_TYPE_F64;

/// Refuses what is no tensor, has no memory yet, or has memory that the host cannot read as it is.
inline ggml_tensor& require_memory(ggml_tensor* t, std::string_view where) {
  if (!t) raise<value_error>(where, "tensor", "a null pointer", "a tensor");
  auto const* const buffer = t->view_src ? t->view_src->buffer : t->buffer;
  if (buffer && !ggml_backend_buffer_is_host(const_cast<ggml_backend_buffer*>(buffer)))
    raise<state_error>(where, tensor_text(*t),
                       std::string("in a buffer of ") +
                           ggml_backend_buffer_name(const_cast<ggml_backend_buffer*>(buffer)) +
                           ", which the host does not read as it is",
                       "in host memory: another buffer type, or a copy by ggml_backend_tensor_get");
  if (!t->data && ggml_nelements(t) > 0)
    raise<state_error>(where, tensor_text(*t), "without memory", "allocated, and computed if it is a result");
  return *t;
}

/// The tensor's ggml rows as rows of a matrix; dimensions 2 and 3 are joined with the rows where `join` allows.
template <Element T>
matrix_view<T, host_space> rows_of(ggml_tensor* tensor, bool join, std::string_view where) {
  auto const& t = require_memory(tensor, where);
  auto const text = [&] { return tensor_text(t); };
  if (t.type != type_of<T>)
    raise<value_error>(where, text(), "of another type",
                       std::string(ggml_type_name(type_of<T>)) +
                           (ggml_is_quantized(t.type) ? "; packed() is for quantised weights" : ""));
  constexpr auto size = sizeof(T);
  for (int d = 0; d < GGML_MAX_DIMS; ++d) {
    if (t.ne[d] < 2) continue;
    if (t.nb[d] == 0)
      raise<shape_error>(where, text(), "broadcast along dimension " + std::to_string(d), "one with memory of its own");
    if (t.nb[d] % size != 0) raise<shape_error>(where, text(), "cut within elements", "strides of whole elements");
    if (d > 1 && !join)
      raise<shape_error>(where, text(), "no matrix", "ne[2] = ne[3] = 1: take one of them by ggml_view_2d");
  }
  auto const stride = [&](int d) { return static_cast<index_t>(t.nb[d] / size); };
  if (ggml_nelements(&t) == 0) return {static_cast<T*>(t.data), t.ne[1] * t.ne[2] * t.ne[3], t.ne[0], t.ne[0], 1};
  index_t rows = t.ne[1], row_stride = stride(1);
  for (int d = 2; d < GGML_MAX_DIMS; ++d) {
    if (t.ne[d] == 1) continue;
    if (rows > 1 && stride(d) != rows * row_stride)
      raise<shape_error>(where, text(), "permuted, or a part of a larger tensor",
                         "rows at one distance over all dimensions: ggml_cont makes them so");
    if (rows == 1) row_stride = stride(d);
    rows *= t.ne[d];
  }
  index_t const cols = t.ne[0], col_stride = stride(0);
  if (!strides_of_matrix(rows, cols, row_stride, col_stride))
    raise<shape_error>(where, text(), "permuted",
                       "one whose numbers lie together along one dimension, without overlap: ggml_cont makes it so");
  // Of a single row or column ggml's other stride says nothing.
  if (rows == 1) return {static_cast<T*>(t.data), 1, cols, col_stride == 1 ? cols : 1, col_stride};
  if (cols == 1) return {static_cast<T*>(t.data), rows, 1, row_stride, row_stride == 1 ? rows : 1};
  return {static_cast<T*>(t.data), rows, cols, row_stride, col_stride};
}

}  // namespace detail

/// A weight, ne = (in, out), as the out x in matrix that ggml_mul_mat multiplies by. A transposed tensor
/// (ggml_transpose) is viewed as the matrix it stands for.
/// errors  value_error for a null pointer, or a type that is not T's (F32, F16, BF16, F64): see packed for quantised ones;
///         state_error for a tensor without memory, or in a buffer that the host does not read as it is (a GPU's, and
///         CPU_REPACK's and AMX's, which hold the numbers in another order); shape_error for more than two dimensions,
///         a broadcast one, one whose numbers lie together along no dimension, or overlap
template <Element T = float>
matrix_view<T, host_space> weight(ggml_tensor* t) {
  return detail::rows_of<T>(t, false, "ggml_bridge::weight");
}
/// Activations, ne = (features, tokens), as the features x tokens matrix that passes take. Dimensions 2 and 3
/// (sequences, images) count as more tokens where their rows lie at one distance.
/// errors  as weight; a batch that is permuted or cut from a larger one is a shape_error
template <Element T = float>
matrix_view<T, host_space> activations(ggml_tensor* t) {
  return detail::rows_of<T>(t, true, "ggml_bridge::activations").transposed();
}

namespace detail {
/// Forks number types of their own: the block must be the one that files have under this number.
inline void check_block(gguf_type_facts const& facts, std::size_t bytes, index_t elements, std::string_view where,
                        std::string const& text) {
  if (facts.bytes == bytes && facts.elements == elements) return;
  raise<format_error>(where, text, std::to_string(bytes) + " bytes for " + std::to_string(elements) + " numbers",
                      std::to_string(facts.bytes) + " for " + std::to_string(facts.elements) + ", as " +
                          std::string(facts.name) + " has in files");
}
}  // namespace detail

/// A weight of any type that read_rows unpacks, quantised ones among them, as it lies in memory. It is only read.
/// errors  as weight; format_error for a type that is not decoded, or that this ggml packs in another way than files do
inline gguf_tensor packed(ggml_tensor const* tensor) {
  std::string_view const where = "ggml_bridge::packed";
  auto const& t = detail::require_memory(const_cast<ggml_tensor*>(tensor), where);
  auto const text = tensor_text(t);
  auto const facts = format::gguf_facts(static_cast<std::uint32_t>(t.type), std::string(where), text);
  detail::check_block(facts, ggml_type_size(t.type), ggml_blck_size(t.type), where, text);
  with_gguf_block(facts, text, [](auto) {});
  if (t.ne[2] != 1 || t.ne[3] != 1)
    raise<shape_error>(where, text, "no matrix", "ne[2] = ne[3] = 1: take one of them by ggml_view_2d");
  if (!ggml_is_contiguous(&t))
    raise<shape_error>(where, text, "permuted, or a part of a larger tensor", "contiguous: blocks go along ne[0]");
  return {text, facts, {t.ne[1], t.ne[0]}, {static_cast<std::byte const*>(t.data), ggml_nbytes(&t)}};
}

}  // namespace loraga::ggml_bridge
