#pragma once
#include <array>
#include <cstring>
#include <loraga/core/float16.hpp>
#include <loraga/core/view.hpp>
#include <span>

namespace loraga {

/// Element types of safetensors files, called as there: the letter of the kind, the bits, the form of 8 bits or fewer.
/// They stand in the format's own order; files list tensors from the last type to the first.
enum class dtype {
  /// as the format calls it
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64
};

namespace format {
struct dtype_facts {
  std::string_view name;
  int bits;
};
inline constexpr std::array<dtype_facts, 22> dtypes{
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};
}  // namespace format

/// The type's name in files.
inline std::string_view dtype_name(dtype t) { return format::dtypes[static_cast<std::size_t>(t)].name; }
/// Bits of an element.
inline int dtype_bits(dtype t) { return format::dtypes[static_cast<std::size_t>(t)].bits; }

/// The type of that name.  errors  format_error naming `where`
inline dtype parse_dtype(std::string_view name, std::string_view where) {
  for (std::size_t i = 0; i < format::dtypes.size(); ++i)
    if (format::dtypes[i].name == name) return static_cast<dtype>(i);
  raise<format_error>(where, "dtype", "'" + std::string(name) + "'", "a dtype of safetensors");
}

/// What files call T.
template <class T>
inline constexpr dtype dtype_of = [] {
  static_assert(Element<T> || std::is_integral_v<T>, "no dtype for this type");
  if (std::is_same_v<T, float>) return dtype::F32;
  if (std::is_same_v<T, double>) return dtype::F64;
  if (std::is_same_v<T, bf16>) return dtype::BF16;
  if (std::is_same_v<T, fp16>) return dtype::F16;
  if (std::is_same_v<T, bool>) return dtype::BOOL;
  constexpr bool sign = std::is_signed_v<T>;
  switch (sizeof(T)) {
    case 1:
      return sign ? dtype::I8 : dtype::U8;
    case 2:
      return sign ? dtype::I16 : dtype::U16;
    case 4:
      return sign ? dtype::I32 : dtype::U32;
    default:
      return sign ? dtype::I64 : dtype::U64;
  }
}();

/// Calls f(T{}) for the C++ type of a floating-point dtype.
/// errors  format_error naming `where` and `what` for dtypes without one here
template <class F>
decltype(auto) with_float_type(dtype t, std::string_view where, std::string_view what, F&& f) {
  switch (t) {
    case dtype::F64:
      return f(double{});
    case dtype::F32:
      return f(float{});
    case dtype::F16:
      return f(fp16{});
    case dtype::BF16:
      return f(bf16{});
    default:
      raise<format_error>(where, what, std::string(dtype_name(t)), "F64, F32, F16 or BF16");
  }
}

/// Elements of a shape.  errors  value_error if a size is negative or the product does not fit
inline index_t element_count(std::span<index_t const> shape, std::string_view where) {
  index_t n = 1;
  bool zero = false;
  for (index_t const d : shape) {
    require_value(d >= 0, static_cast<double>(d), where, "a size", "at least 0");
    zero = zero || d == 0;
  }
  if (zero) return 0;
  for (index_t const d : shape) {
    if (n > (index_t{1} << 59) / d) raise<value_error>(where, "shape", "too large", "below 2^59 elements");
    n *= d;
  }
  return n;
}

/// "[3, 4]", for messages.
inline std::string shape_text(std::span<index_t const> shape) {
  std::string s = "[";
  for (index_t const d : shape) s += (s.size() > 1 ? ", " : "") + std::to_string(d);
  return s + "]";
}

/// Reads one element that may be unaligned.
template <class T>
T load_element(std::byte const* p) {
  T x;
  std::memcpy(&x, p, sizeof(T));
  return x;
}

}  // namespace loraga
