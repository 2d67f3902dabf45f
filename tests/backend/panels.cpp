#include <loraga/backend/panels.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

namespace {

/// Element (i, k) is 1000*i + k + 1, in either layout.
struct numbered {
  std::vector<float> data;
  matrix_view<float const, host_space> view;
  numbered(index_t rows, index_t cols, bool down) : data(static_cast<std::size_t>(rows * cols)) {
    matrix_view<float, host_space> const all(data.data(), rows, cols, down ? 1 : cols, down ? rows : 1);
    for (index_t k = 0; k < cols; ++k)
      for (index_t i = 0; i < rows; ++i) all(i, k) = static_cast<float>(1000 * i + k + 1);
    view = all;
  }
};

}  // namespace

TEST_CASE("panels hold every row once, term by term, and zeros below", "[backend]") {
  for (int const most : {2, 3})
    for (index_t const rows : {1, 5, 8, 16, 17, 33, 48, 49, 100})
      for (index_t const terms : {1, 7, 16, 40})
        for (bool const down : {true, false}) {
          numbered const a(rows, terms, down);
          std::vector<float> packed(static_cast<std::size_t>(eigen::padded_rows<float>(rows, most) * terms), -1.0f);
          eigen::left_panels<float>::pack(a.view, most, packed.data());
          index_t wrong = 0;
          for (index_t first = 0; first < rows;) {
            index_t const height = eigen::panel_height<float>(rows - first, most);
            for (index_t k = 0; k < terms; ++k)
              for (index_t i = 0; i < height; ++i) {
                float const expected = first + i < rows ? a.view(first + i, k) : 0.0f;
                wrong += packed[static_cast<std::size_t>(first * terms + k * height + i)] != expected;
              }
            first += height;
          }
          CHECK(wrong == 0);
        }
}

TEST_CASE("groups of columns come term by term, the last ones in powers of two", "[backend]") {
  for (int const most : {4, 8})
    for (index_t const columns : {1, 2, 3, 7, 8, 15})
      for (bool const down : {true, false}) {
        numbered const b(9, columns, down);
        std::vector<float> packed(static_cast<std::size_t>(9 * columns));
        eigen::pack_right<float>(b.view, most, packed.data());
        index_t wrong = 0, width = 0;
        for (index_t j = 0; j < columns; j += width) {
          width = eigen::group_width(columns - j, most);
          CHECK((width == most || (width < most && (width & (width - 1)) == 0)));
          for (index_t k = 0; k < 9; ++k)
            for (index_t q = 0; q < width; ++q)
              wrong += packed[static_cast<std::size_t>(9 * j + k * width + q)] != b.view(k, j + q);
        }
        CHECK(wrong == 0);
      }
}
