#pragma once
#include <algorithm>
#include <loraga/core/config.hpp>

namespace loraga {

/// How a product's result is cut into tasks for threads.
struct product_tile {
  index_t rows, cols;  ///< of a tile; the last ones may be smaller
};

/// Equal tiles of at most 512 x 512, and smaller ones where there would be fewer than four, so that no thread waits
/// long for another. They decide the last bits of a product, hence follow from its shape alone: never from the number
/// of threads. rows and cols are at least 1.
inline product_tile product_tile_of(index_t rows, index_t cols, index_t depth) {
  constexpr index_t most = 512, few = 4, step = 16;        // multiples of a vector register
  constexpr index_t worth = index_t{1} << 20, least = 96;  // multiply-adds, and rows or columns, that a task is worth
  index_t down = (rows + most - 1) / most, across = (cols + most - 1) / most;
  index_t const wanted = std::min<index_t>(few, rows * cols * depth / worth);
  while (down * across < wanted) {
    bool const rows_are_longer = rows * across >= cols * down;
    if ((rows_are_longer ? rows / down : cols / across) < 2 * least) break;
    (rows_are_longer ? down : across) *= 2;
  }
  auto const size = [](index_t n, index_t parts) { return ((n + parts - 1) / parts + step - 1) / step * step; };
  return {size(rows, down), size(cols, across)};
}

}  // namespace loraga
