#pragma once
#include <loraga/adapter/borrowed_factors.hpp>
#include <loraga/ggml/views.hpp>
#include <loraga/io/record_algebra.hpp>

namespace loraga::ggml_bridge {

/// A and B as llama.cpp's adapters hold them, with their gradients: all F32. A graph multiplies by them as they are,
///   ggml_scale(ctx, ggml_mul_mat(ctx, f.b, ggml_mul_mat(ctx, f.a, x)), s)
/// shapes  a and da ne = (in, r); b and db ne = (r, out)
/// memory  none of its own
struct factor_tensors {
  ggml_tensor *a = nullptr, *b = nullptr;    ///< A and B
  ggml_tensor *da = nullptr, *db = nullptr;  ///< their gradients
};

/// New tensors of a context, named "NAME.lora_a", "NAME.lora_b" and with ".grad" behind: as llama.cpp calls them, where
/// NAME is the weight's. They hold what the context's memory holds; a start writes them.
/// errors  value_error if a size is < 1
inline factor_tensors new_factors(ggml_context* context, index_t out, index_t in, index_t rank,
                                  std::string const& name) {
  require_value(std::min({out, in, rank}) >= 1, static_cast<double>(std::min({out, in, rank})),
                "ggml_bridge::new_factors", "out, in or rank", "at least 1");
  auto const made = [&](index_t ne0, index_t ne1, char const* suffix) {
    return ggml_set_name(ggml_new_tensor_2d(context, GGML_TYPE_F32, ne0, ne1), (name + suffix).c_str());
  };
  return {made(in, rank, ".lora_a"), made(rank, out, ".lora_b"), made(in, rank, ".lora_a.grad"),
          made(rank, out, ".lora_b.grad")};
}

/// The memory of A, B and their gradients for an adapter over it: lora<float, B>(be, borrowed(f), scaling).
/// errors  those of weight; that they fit together is looked at by the adapter
inline borrowed_factors<float, host_space> borrowed(factor_tensors const& f) {
  return {weight(f.a), weight(f.b), weight(f.da), weight(f.db)};
}

namespace detail {
/// Calls f(T{}) for the type of a tensor that factors are written to; F32 for any other one, whose view then refuses
/// it.
template <class F>
void with_factor_type(ggml_tensor const* t, F&& f) {
  if (t && t->type == GGML_TYPE_F16) f(fp16{});
  else if (t && t->type == GGML_TYPE_BF16) f(bf16{});
  else f(float{});
}
inline void check_target(record_matrix const& from, ggml_tensor* to, std::string_view where, char const* name) {
  with_factor_type(to, [&]<class T>(T) {
    require_shape(rows_of<T>(to, false, where), from.rows, from.cols, where, name);
    for (float const x : from.values)
      if (!is_finite(as_double(static_cast<T>(x))))
        raise<numeric_error>(where, name, std::to_string(x), "within the tensor's type");
  });
}
inline void write(record_matrix const& from, ggml_tensor* to) {
  with_factor_type(to, [&]<class T>(T) {
    auto const view = rows_of<T>(to, false, {});
    for (index_t i = 0; i < view.rows; ++i)
      for (index_t j = 0; j < view.cols; ++j) view(i, j) = static_cast<T>(from.view()(i, j));
  });
}
}  // namespace detail

/// Writes an adapter's record into tensors (F32, F16 or BF16) that any ggml graph runs on the weight there was, without
/// this library: an anchored record as [A; A0] and [B, -B0], of rank 2r. (Into a file: save_gguf_adapter.)
/// shapes  a ne = (in, rank), b ne = (rank, out), rank that of widened(record)
/// returns  alpha: llama.cpp adds (alpha/rank)*B*A, rank being b's ne[0]
/// errors  check_record's and weight's; shape_error; numeric_error for numbers outside a tensor's type; state_error for
///         DoRA's records; value_error for records of other layers, and for s = 0, because llama.cpp takes an alpha of
///         0 for s = 1
inline double write_factors(adapter_record const& record, ggml_tensor* a, ggml_tensor* b) {
  std::string const where = "ggml_bridge::write_factors(" + record.module + ")";
  check_record(record, "ggml_bridge::write_factors");
  require_no_magnitude(record, where);
  if (record.layer.form != layer_form::linear)
    raise<value_error>(where, "record", "of " + layer_text(record.layer), "of a linear layer");
  require_value(record.scale != 0, record.scale, where, "scale", "another number than 0");
  auto const whole = widened(record);
  auto const plain = whole.has_e() ? without_e(whole) : whole;
  detail::check_target(plain.a, a, where, "lora_a");
  detail::check_target(plain.b, b, where, "lora_b");
  detail::write(plain.a, a);
  detail::write(plain.b, b);
  return plain.scale * static_cast<double>(plain.rank());
}

}  // namespace loraga::ggml_bridge
