#pragma once
#include <loraga/core/bits.hpp>
#include <type_traits>

namespace loraga {

/// bfloat16 as storage: 8 exponent bits, 7 mantissa bits; same bytes as CUDA's __nv_bfloat16.
/// Arithmetic happens in float. The conversion rounds to nearest even and keeps NaN a NaN.
struct bf16 {
  std::uint16_t bits = 0;  ///< the number's own
  bf16() = default;
  LORAGA_HD explicit bf16(float x) {
    auto const u = bits_as<std::uint32_t>(x);
    bool const nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = static_cast<std::uint16_t>(nan ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  LORAGA_HD explicit operator float() const { return bits_as<float>(static_cast<std::uint32_t>(bits) << 16); }
};

/// IEEE binary16 as storage; same bytes as CUDA's __half. Rounds to nearest even, overflows to infinity.
struct fp16 {
  std::uint16_t bits = 0;  ///< the number's own
  fp16() = default;
  LORAGA_HD explicit fp16(float x) {
    auto const u = bits_as<std::uint32_t>(x);
    std::uint32_t const sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    std::uint32_t h;
    if (magnitude > 0x7f800000u) {
      h = 0x7e00u;  // NaN
    } else if (magnitude >= 0x477ff000u) {
      h = 0x7c00u;  // 65520 and above round to infinity
    } else if (magnitude < 0x38800000u) {
      // Below 2^-14 the result is a multiple of 2^-24: adding 0.5 lets the float unit do that rounding.
      h = bits_as<std::uint32_t>(bits_as<float>(magnitude) + 0.5f) - 0x3f000000u;
    } else {
      h = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    bits = static_cast<std::uint16_t>(sign | h);
  }
  LORAGA_HD explicit operator float() const {
    std::uint32_t const sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16, magnitude = bits & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_as<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x0400u) return bits_as<float>(sign | ((magnitude << 13) + 0x38000000u));
    float const subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-8f;  // in units of 2^-24
    return bits_as<float>(sign | bits_as<std::uint32_t>(subnormal));
  }
};

/// Whether T is one of the two 16-bit types.
template <class T>
inline constexpr bool is_16bit = std::is_same_v<T, bf16> || std::is_same_v<T, fp16>;

/// The type that products and sums of T are carried out in: float for 16-bit storage, else T itself.
template <class T>
using compute_t = std::conditional_t<is_16bit<T>, float, T>;

/// The value of any element as a C (float or double).
template <class C, class T>
LORAGA_HD C value_as(T x) {
  return static_cast<C>(static_cast<compute_t<T>>(x));
}
template <class T>
LORAGA_HD double as_double(T x) {
  return value_as<double>(x);
}

/// The types that a matrix may hold: float, double, bf16 and fp16.
template <class T>
concept Element = std::is_same_v<T, float> || std::is_same_v<T, double> || is_16bit<T>;

}  // namespace loraga
