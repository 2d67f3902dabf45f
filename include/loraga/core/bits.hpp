#pragma once
#include <loraga/core/config.hpp>

namespace loraga {

/// std::bit_cast that device code may call as well.
template <class To, class From>
LORAGA_HD constexpr To bits_as(From x) {
  return __builtin_bit_cast(To, x);
}

/// Whether x is a finite number, and whether it is NaN. Both read the bits. Training code is often compiled with
/// -ffast-math, under which compilers drop std::isfinite and x != x, and with them the checks.
LORAGA_HD constexpr bool is_finite(double x) {
  return (bits_as<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}
LORAGA_HD constexpr bool is_nan(double x) {
  return (bits_as<std::uint64_t>(x) & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

}  // namespace loraga
