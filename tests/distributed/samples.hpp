#pragma once
#include "../support/ranks.hpp"

// Micro-batches of a small model's layers, for ranks to share.

namespace test {

/// Layers wide, tall and narrow.
inline std::vector<loraga::layer_size> const& layer_sizes() {
  static std::vector<loraga::layer_size> const all{{24, 40}, {33, 17}, {60, 50}};
  return all;
}

struct micro_batch {
  host dy, x;
};
/// Micro-batch number `number` of a layer: a spectrum that falls, noise below it.
inline micro_batch batch_of(std::size_t layer, int number, index_t tokens) {
  auto const s = layer_sizes()[layer];
  auto const seed = 100 * layer + static_cast<std::uint64_t>(number);
  host dy = 0.05 * random(s.out, tokens, seed);
  auto const base = random(s.out, 3, 7 + layer);
  for (index_t j = 0; j < tokens; ++j)
    for (index_t i = 0; i < s.out; ++i) dy(i, j) += base(i, j % 3) * (3 - static_cast<double>(j % 3));
  return {dy, random(s.in, tokens, seed + 50)};
}

/// How many of the ranks have data: all but the last, where there are three or more.
inline int busy_ranks(int ranks) { return ranks >= 3 ? ranks - 1 : ranks; }

/// The largest difference of two lists, relative to the largest number; huge where they differ in length.
inline double largest_difference(std::vector<double> const& a, std::vector<double> const& b) {
  if (a.size() != b.size()) return 1e30;
  double most = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return most / size;
}

}  // namespace test
