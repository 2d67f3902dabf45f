#include <loraga/backend/split_index.hpp>

#include "../support/catch.hpp"

using loraga::index_t;

TEST_CASE("split_index divides exactly", "[backend]") {
  index_t const big = index_t{1} << 31;
  for (auto const& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{1, 9},
                                                                           {2, 7},
                                                                           {3, 1000003},
                                                                           {4096, 4096},
                                                                           {4097, 11008},
                                                                           {65535, 65537},
                                                                           {128256, 4096},
                                                                           {big - 1, 3},
                                                                           {big, 4},
                                                                           {big + 1, 5},
                                                                           {index_t{1} << 40, 1},
                                                                           {(index_t{1} << 32) + 15, 77}}) {
    loraga::split_index const split(rows, cols);
    for (index_t const j : {index_t{0}, index_t{1}, cols / 2, cols - 1})
      for (index_t const i : {index_t{0}, index_t{1}, rows / 2, rows - 2, rows - 1})
        if (i >= 0 && i < rows && j < cols) {
          INFO(rows << "x" << cols << " at " << i << "," << j);
          CHECK(split.column(i + j * rows) == j);
        }
  }
}
