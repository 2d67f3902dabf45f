#pragma once
#include <loraga/core/config.hpp>

namespace loraga {

/// Splits a running number e = i + j*rows into row and column by a multiplication. A 64-bit division costs a GPU some
/// 70 instructions per element, more than the element's work.
/// math    j = floor(e*m/2^64), m = ceil(2^64/rows): exact while rows^2*cols < 2^64; beyond that it divides
class split_index {
  index_t rows_ = 1;
  std::uint64_t multiplier_ = 0;  // 0: divide

 public:
  split_index() = default;  ///< of one row
  split_index(index_t rows, index_t cols) : rows_(rows) {
    __extension__ using wide = unsigned __int128;
    auto const r = static_cast<wide>(rows);
    if (rows > 1 && r * r * static_cast<wide>(cols) < (static_cast<wide>(1) << 64))
      multiplier_ = ~std::uint64_t{0} / static_cast<std::uint64_t>(rows) + 1;
  }
  /// j
  LORAGA_HD index_t column(index_t e) const {
    __extension__ using wide = unsigned __int128;
    if (multiplier_ == 0) return rows_ == 1 ? e : e / rows_;
    return static_cast<index_t>((static_cast<wide>(multiplier_) * static_cast<std::uint64_t>(e)) >> 64);
  }
};

}  // namespace loraga
