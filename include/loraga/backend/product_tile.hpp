#pragma once
#include <algorithm>
#include <loraga/core/config.hpp>

namespace loraga {

/// Whether a view's columns are contiguous; else its rows are. A single row counts as columns of one.
template <class V>
bool runs_down(V const& v) {
  return v.row_stride == 1 || v.rows == 1;
}

namespace eigen {

/// Which part of a product is wanted: all of it, or what is needed of a symmetric one (tiles that lie above the
/// diagonal are then left as they were).
enum class wanted { all, lower };

}  // namespace eigen

/// In which order a product takes its operands. Rows of its result go along vector registers: the left operand is
/// copied into panels of them, the right one's numbers are spread over one register each.
struct product_order {
  static constexpr index_t few =
      128;  ///< rows or columns of a result that count as few: one operand is then far larger

  bool swapped;       ///< cT = bT*aT is formed
  bool in_place;      ///< the right operand is large and its columns are contiguous: it is read where it lies
  bool streams_left;  ///< the left operand is large and its columns are contiguous: it passes by once

  /// down: columns of an operand are contiguous (see runs_down), else its rows are.
  static product_order of(index_t rows, index_t cols, bool a_down, bool b_down) {
    bool const tall = cols < rows && cols <= few, flat = rows < cols && rows <= few;
    bool const swapped = (tall && !a_down) || (flat && !b_down);
    bool const left_down = swapped ? !b_down : a_down, right_down = swapped ? !a_down : b_down;
    bool const right_is_large = swapped ? cols <= rows : rows <= cols;
    return {swapped, right_down && right_is_large, left_down && !right_is_large && (tall || flat)};
  }
};

/// How a product is cut into tasks for threads: parts of its result, and of its sums.
struct product_tile {
  index_t rows, cols, depth;  ///< of a task; the last ones may be smaller
};

/// Equal tiles of at most 512 x 512 (1024 along a result of few rows or columns), and smaller ones where there would be
/// fewer than four, so that no thread waits long for another. Where the left operand streams, its columns stay whole
/// and sums are cut instead: memory is then read in one line. Tiles decide the last bits of a product, hence follow
/// from its shape and layout alone: never from the number of threads. rows and cols are at least 1.
inline product_tile product_tile_of(index_t rows, index_t cols, index_t depth, bool a_down, bool b_down) {
  constexpr index_t tasks = 4, step = 16;                  // multiples of a vector register
  constexpr index_t worth = index_t{1} << 20, least = 96;  // multiply-adds, and rows or columns, that a task is worth
  index_t const wanted = std::min<index_t>(tasks, rows * cols * depth / worth);
  auto const size = [](index_t n, index_t parts) { return ((n + parts - 1) / parts + step - 1) / step * step; };
  auto const parts = [](index_t n, index_t most) { return (n + most - 1) / most; };
  if (product_order::of(rows, cols, a_down, b_down).streams_left) {
    constexpr index_t longest = 8192, shortest = 512;
    bool const tall = rows > cols;
    index_t const large = std::max(rows, cols), lesser = std::min(rows, cols);
    // parts of a sum cost a pass over the result each
    index_t const slices = std::max<index_t>(1, std::min({wanted, depth / (16 * lesser), depth / least}));
    index_t const pieces = std::max(parts(large, longest), std::min(wanted / slices, large / shortest));
    return {size(rows, tall ? pieces : 1), size(cols, tall ? 1 : pieces), size(depth, slices)};
  }
  auto const most = [](index_t other) -> index_t { return other <= product_order::few ? 1024 : 512; };
  index_t down = parts(rows, most(cols)), across = parts(cols, most(rows));
  while (down * across < wanted) {
    bool const rows_are_longer = rows * across >= cols * down;
    if ((rows_are_longer ? rows / down : cols / across) < 2 * least) break;
    (rows_are_longer ? down : across) *= 2;
  }
  return {size(rows, down), size(cols, across), depth};
}

}  // namespace loraga
