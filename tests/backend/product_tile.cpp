#include <loraga/backend/product_tile.hpp>

#include "../support/catch.hpp"

using loraga::index_t;

namespace {
index_t tasks(index_t rows, index_t cols, index_t depth, bool a_down = true, bool b_down = true) {
  auto const t = loraga::product_tile_of(rows, cols, depth, a_down, b_down);
  return (rows + t.rows - 1) / t.rows * ((cols + t.cols - 1) / t.cols) * ((depth + t.depth - 1) / t.depth);
}
}  // namespace

TEST_CASE("tiles are whole registers, of a size that caches hold, and never larger than the product", "[backend]") {
  for (index_t const rows : {1, 15, 16, 96, 192, 511, 512, 513, 576, 1000, 1536, 4096, 49152})
    for (index_t const cols : {1, 8, 97, 256, 600, 4096})
      for (index_t const depth : {0, 1, 8, 576, 4096})
        for (int layout = 0; layout < 4; ++layout) {
          INFO(rows << " x " << cols << ", depth " << depth << ", layout " << layout);
          auto const t = loraga::product_tile_of(rows, cols, depth, layout & 1, layout & 2);
          CHECK((t.rows > 0 && t.rows <= 8192 && t.rows % 16 == 0));
          CHECK((t.cols > 0 && t.cols <= 8192 && t.cols % 16 == 0));
          CHECK((t.rows <= 512 || t.cols <= 512));
          CHECK((t.rows < rows + 16 && t.cols < cols + 16 && t.depth < depth + 16));
        }
}

TEST_CASE("a model's products have work for four threads, and small ones are one task", "[backend]") {
  CHECK(tasks(576, 256, 576) == 4);  // 512 and 64 rows would leave one thread nearly all of it
  CHECK(tasks(1536, 256, 576) == 6);
  CHECK(tasks(192, 256, 576) == 4);
  CHECK(tasks(256, 8, 1536, false) == 2);
  CHECK(tasks(256, 8, 576, false) == 1);
  CHECK(tasks(64, 64, 64) == 1);
  CHECK(tasks(4096, 4096, 4096) == 64);
  CHECK(tasks(4096, 8, 4096, false) == 4);
}

TEST_CASE("a left operand that streams keeps its columns whole: sums are cut", "[backend]") {
  auto const t = loraga::product_tile_of(4096, 16, 4096, true, true);
  CHECK((t.rows == 4096 && t.depth == 1024));
  auto const flat = loraga::product_tile_of(8, 4096, 2048, true, false);
  CHECK((flat.cols == 4096 && flat.depth < 2048));
  CHECK(tasks(49152, 16, 4096) >= 4);
  CHECK(loraga::product_tile_of(4096, 16, 64, true, true).depth == 64);  // rows are cut instead
}

TEST_CASE("the large operand of a thin product is read where it lies, or streams", "[backend]") {
  using loraga::product_order;
  auto const wide = product_order::of(4096, 16, false, true);  // rows of a are contiguous
  CHECK((wide.swapped && wide.in_place && !wide.streams_left));
  auto const tall = product_order::of(4096, 16, true, true);
  CHECK((!tall.swapped && !tall.in_place && tall.streams_left));
  auto const flat = product_order::of(16, 4096, true, true);
  CHECK((!flat.swapped && flat.in_place));
  auto const other = product_order::of(16, 4096, true, false);
  CHECK((other.swapped && !other.in_place && other.streams_left));
  CHECK(!product_order::of(512, 512, false, false).swapped);
}
