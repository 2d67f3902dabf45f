#include <loraga/backend/product_tile.hpp>

#include "../support/catch.hpp"

using loraga::index_t;

namespace {
index_t tasks(index_t rows, index_t cols, index_t depth) {
  auto const t = loraga::product_tile_of(rows, cols, depth);
  return (rows + t.rows - 1) / t.rows * ((cols + t.cols - 1) / t.cols);
}
}  // namespace

TEST_CASE("tiles are whole registers, at most 512 wide, and never larger than the product", "[backend]") {
  for (index_t const rows : {1, 15, 16, 96, 192, 511, 512, 513, 576, 1000, 1536, 4096, 49152})
    for (index_t const cols : {1, 8, 97, 256, 600, 4096})
      for (index_t const depth : {0, 1, 8, 576, 4096}) {
        INFO(rows << " x " << cols << ", depth " << depth);
        auto const t = loraga::product_tile_of(rows, cols, depth);
        CHECK((t.rows > 0 && t.rows <= 512 && t.rows % 16 == 0));
        CHECK((t.cols > 0 && t.cols <= 512 && t.cols % 16 == 0));
        CHECK((t.rows < rows + 16 && t.cols < cols + 16));
      }
}

TEST_CASE("a model's products have work for four threads, and small ones are one task", "[backend]") {
  CHECK(tasks(576, 256, 576) == 4);  // 512 and 64 rows would leave one thread nearly all of it
  CHECK(tasks(1536, 256, 576) == 6);
  CHECK(tasks(192, 256, 576) == 4);
  CHECK(tasks(256, 8, 1536) == 2);
  CHECK(tasks(256, 8, 576) == 1);
  CHECK(tasks(64, 64, 64) == 1);
  CHECK(tasks(4096, 4096, 4096) == 64);
  CHECK(tasks(4096, 8, 4096) == 8);
}
