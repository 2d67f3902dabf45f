#pragma once
#include <cmath>
#include <loraga/core/philox.hpp>
#include <string>
#include <vector>

// Square gradient-like matrices of the spectra of bench/cpu/spectra.py, made by Hadamard transforms, which cost
// n^2*log(n).

namespace passes {

using loraga::index_t;
using numbers = std::vector<float>;  // n x n, column-major

inline double normal(std::uint64_t seed, std::uint64_t i) { return loraga::random_normal({seed, 7}, i); }

/// Every column times random signs, then the orthogonal Hadamard transform; n is a power of two.
inline void mix_columns(numbers& a, index_t n, std::uint64_t seed) {
  for (index_t j = 0; j < n; ++j) {
    float* const x = a.data() + j * n;
    for (index_t i = 0; i < n; ++i)
      if (loraga::random_uniform({seed, 1}, static_cast<std::uint64_t>(i)) < 0.5) x[i] = -x[i];
    for (index_t h = 1; h < n; h *= 2)
      for (index_t i = 0; i < n; i += 2 * h)
        for (index_t p = i; p < i + h; ++p) {
          float const s = x[p] + x[p + h], d = x[p] - x[p + h];
          x[p] = s, x[p + h] = d;
        }
    for (index_t i = 0; i < n; ++i) x[i] /= std::sqrt(static_cast<float>(n));
  }
}
inline void transpose(numbers& a, index_t n) {
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < j; ++i)
      std::swap(a[static_cast<std::size_t>(i + j * n)], a[static_cast<std::size_t>(j + i * n)]);
}
/// Two rounds on both sides.
inline void rotate(numbers& a, index_t n) {
  for (std::uint64_t round = 0; round < 4; ++round) mix_columns(a, n, 11 + round), transpose(a, n);
}

/// pl1n: 1/i plus white noise of norm 1/64; pl05: i^-1/2; flat16: 16 equal, then 1/4 of that falling as i^-1;
/// lowrank: 0.9^i plus white noise of norm 1e-4.
inline numbers make(std::string const& kind, index_t n) {
  numbers a(static_cast<std::size_t>(n * n), 0.0f);
  for (index_t i = 0; i < n; ++i) {
    double const x = static_cast<double>(i + 1);
    double const s = kind == "pl1n"     ? 1 / x
                     : kind == "pl05"   ? 1 / std::sqrt(x)
                     : kind == "flat16" ? (i < 16 ? 1 : 4 / x)
                                        : std::pow(0.9, x);
    a[static_cast<std::size_t>(i * (n + 1))] = static_cast<float>(s);
  }
  rotate(a, n);
  double const noise = kind == "pl1n" ? 1.0 / 64 : kind == "lowrank" ? 1e-4 : 0;
  if (noise > 0)
    for (std::size_t i = 0; i < a.size(); ++i)
      a[i] += static_cast<float>(normal(3, i) * noise / (2 * std::sqrt(static_cast<double>(n))));
  return a;
}

}  // namespace passes
