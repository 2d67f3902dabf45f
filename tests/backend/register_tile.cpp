#include <limits>
#include <loraga/backend/register_tile.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("panels are halves of registers, and waste less than one", "[backend]") {
  constexpr index_t lanes = eigen::packets<float>::lanes, half = eigen::packets<float, true>::lanes;
  for (int const most : {2, 3})
    for (index_t rows = 1; rows < 8 * lanes; ++rows) {
      index_t const height = eigen::panel_height<float>(rows, most);
      CHECK((height > 0 && height <= most * lanes && height < rows + lanes));
      CHECK((height == half || height % lanes == 0));
    }
}

namespace {

/// Of alpha*left*right + beta*out in a tile of that shape; out has a guard below its rows.
template <bool Packed>
index_t wrong_in_tile(index_t height, int columns, index_t rows, double beta) {
  index_t const depth = 5, stride = height + 2, terms = 7;
  auto const size = [](index_t n) { return static_cast<std::size_t>(n); };
  std::vector<double> left(size(height * depth)), right(size(columns * terms)), out(size(stride * columns), 2.0);
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = static_cast<double>(i % 7);
  for (std::size_t i = 0; i < right.size(); ++i) right[i] = static_cast<double>(i % 5);
  if (beta == 0) out.assign(out.size(), std::numeric_limits<double>::quiet_NaN());
  eigen::run_tile<Packed>(height, columns,
                          eigen::tile_work<double>{depth, left.data(), height, right.data(), terms, 3, beta, out.data(),
                                                   stride, rows, nullptr, 0});
  index_t wrong = 0;
  for (int j = 0; j < columns; ++j)
    for (index_t i = 0; i < stride; ++i) {
      double sum = 0;
      for (index_t k = 0; k < depth && i < height; ++k)
        sum += left[size(k * height + i)] * right[size(Packed ? k * columns + j : j * terms + k)];
      double const expected = beta == 0 ? 3 * sum : 3 * sum + beta * 2, here = out[size(i + j * stride)];
      bool const untouched = beta == 0 ? here != here : here == 2;
      wrong += i < rows ? here != expected : !untouched;
    }
  return wrong;
}

}  // namespace

TEST_CASE("a tile multiplies, adds what was there, and writes the rows that exist", "[backend]") {
  constexpr index_t lanes = eigen::packets<double>::lanes, half = eigen::packets<double, true>::lanes;
  for (index_t const height : {half, lanes, 2 * lanes, 3 * lanes})
    for (index_t const rows : {height, std::max<index_t>(1, height - 1)})
      for (double const beta : {0.0, 1.0, -0.5}) {
        for (int const columns : {1, 2, 4, eigen::many_registers ? 8 : 4})
          CHECK(wrong_in_tile<true>(height, columns, rows, beta) == 0);
        for (int const columns : {1, 2, 4, eigen::many_registers ? 8 : 6})
          CHECK(wrong_in_tile<false>(height, columns, rows, beta) == 0);
      }
}
