#pragma once
#include <cmath>
#include <loraga/core/config.hpp>

namespace loraga {

/// A reproducible source of randomness as a value: a seed and the number of a stream under it. Random number e of a
/// stream is a function of (seed, id, e) alone. So it does not matter who computes it, where, or in which order.
struct random_stream {
  std::uint64_t seed = 0, id = 0;  ///< id is the stream's number
};

/// 128 random bits.
struct philox_block {
  std::uint32_t word[4];  ///< 32 bits each
};

/// Philox4x32-10: 128 random bits for a 128 bit counter and a 64 bit key.
/// source  Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011
LORAGA_HD inline philox_block philox(std::uint64_t key, std::uint64_t low, std::uint64_t high) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  auto c0 = static_cast<std::uint32_t>(low), c1 = static_cast<std::uint32_t>(low >> 32);
  auto c2 = static_cast<std::uint32_t>(high), c3 = static_cast<std::uint32_t>(high >> 32);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const p0 = std::uint64_t{0xD2511F53u} * c0, p1 = std::uint64_t{0xCD9E8D57u} * c2;
    std::uint32_t const n0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
    std::uint32_t const n2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<std::uint32_t>(p1);
    c3 = static_cast<std::uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Block number `block` of a stream: 128 random bits.
LORAGA_HD inline philox_block random_bits(random_stream s, std::uint64_t block) { return philox(s.seed, block, s.id); }

/// Another stream, for `purpose`, that shares nothing with this one in practice (its id is a 64 bit hash).
LORAGA_HD inline random_stream derive(random_stream s, std::uint64_t purpose) {
  auto const b = philox(~s.seed, purpose, s.id);
  return {s.seed, b.word[0] | static_cast<std::uint64_t>(b.word[1]) << 32};
}

/// 64 bits to [0, 1), 53 of them used; exact in double.
LORAGA_HD inline double unit_interval(std::uint32_t low, std::uint32_t high) {
  std::uint64_t const u = low | static_cast<std::uint64_t>(high) << 32;
  return static_cast<double>(u >> 11) * 0x1p-53;
}

/// Uniform number e of a stream, in [0, 1).
LORAGA_HD inline double random_uniform(random_stream s, std::uint64_t e) {
  auto const b = random_bits(s, e >> 1);
  return e & 1 ? unit_interval(b.word[2], b.word[3]) : unit_interval(b.word[0], b.word[1]);
}

/// Standard normal number e of a stream, by Box-Muller, one pair per block. The integers behind it are the same on
/// every machine. log and cos are the platform's, so values agree to about 1e-15 relative, not bit for bit.
LORAGA_HD inline double random_normal(random_stream s, std::uint64_t e) {
  auto const b = random_bits(s, e >> 1);
  double const radius = std::sqrt(-2.0 * std::log(1.0 - unit_interval(b.word[0], b.word[1])));
  double const angle = 6.283185307179586476925 * unit_interval(b.word[2], b.word[3]);
  return radius * (e & 1 ? std::sin(angle) : std::cos(angle));
}

}  // namespace loraga
