#include <loraga/core/view.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("layouts are strides", "[core]") {
  std::vector<float> const x{0, 1, 2, 3, 4, 5};
  auto const weight = row_major(x.data(), 2, 3);
  CHECK(weight(1, 0) == 3);
  CHECK(weight(0, 2) == 2);
  auto const columns = col_major(x.data(), 2, 3);
  CHECK(columns(1, 0) == 1);
  CHECK(columns(0, 2) == 4);
  auto const batch = activations(x.data(), 3, 2);  // 3 tokens of 2 features
  CHECK(batch.rows == 2);
  CHECK(batch.cols == 3);
  CHECK(batch(1, 2) == 5);
  CHECK(weight.transposed()(2, 1) == weight(1, 2));
  CHECK(weight.columns(1, 2)(1, 1) == 5);
  CHECK(weight.row_range(1, 1)(0, 2) == 5);
  CHECK(weight.columns(1, 1).row_range(1, 1)(0, 0) == 4);
}

TEST_CASE("a mutable view becomes a const one", "[core]") {
  std::vector<float> x(6);
  const_view<float, host_space> const v = row_major(x.data(), 2, 3);
  CHECK(v.data == x.data());
  STATIC_REQUIRE(ViewIn<decltype(v), host_space> == false);  // a const object is not a view type by itself
  STATIC_REQUIRE(ViewIn<const_view<float, host_space>, host_space>);
  STATIC_REQUIRE(!MutableViewIn<const_view<float, host_space>, host_space>);
  STATIC_REQUIRE(!ViewIn<const_view<float, host_space>, device_space>);
}

TEST_CASE("slices outside are refused by name", "[core]") {
  std::vector<float> x(6);
  auto const v = col_major(x.data(), 2, 3);
  CHECK_THROWS_AS(v.columns(2, 2), shape_error);
  CHECK_THROWS_AS(v.columns(-1, 1), shape_error);
  CHECK_THROWS_WITH(v.columns(2, 2),
                    "matrix_view::columns: range is 2+2, expected within " + std::to_string(v.cols) + " columns");
  CHECK_THROWS_WITH(v.row_range(9, 2),
                    "matrix_view::row_range: range is 9+2, expected within " + std::to_string(v.rows) + " rows");
  CHECK_THROWS_AS(v.row_range(0, 3), shape_error);
  CHECK_NOTHROW(v.columns(3, 0));
}

TEST_CASE("a view without a unit stride, a null one and a negative one are refused", "[core]") {
  std::vector<float> x(100);
  matrix_view<float, host_space> const every_second(x.data(), 3, 3, 2, 10);
  CHECK_THROWS_AS(require_matrix(every_second, "f", "x"), shape_error);
  matrix_view<float, host_space> const folded(x.data(), 3, 3, 1, 2);  // columns overlap
  CHECK_THROWS_AS(require_matrix(folded, "f", "x"), shape_error);
  CHECK_THROWS_AS(require_matrix(matrix_view<float, host_space>(nullptr, 1, 1, 1, 1), "f", "x"), shape_error);
  CHECK_THROWS_AS(require_matrix(matrix_view<float, host_space>(x.data(), -1, 1, 1, 1), "f", "x"), shape_error);
  CHECK_NOTHROW(require_matrix(matrix_view<float, host_space>(nullptr, 0, 5, 1, 0), "f", "x"));
  CHECK_NOTHROW(require_matrix(matrix_view<float, host_space>(x.data(), 5, 1, 7, 1), "f", "x"));  // a strided column
  CHECK_THROWS_WITH(require_shape(col_major(x.data(), 2, 3), 3, 2, "f", "x"), "f: x is 2x3, expected 3x2");
}

TEST_CASE("overlap is exact for slices of one buffer", "[core]") {
  std::vector<float> x(200);
  auto const whole = col_major(x.data(), 10, 20);
  auto const top = whole.row_range(0, 4), bottom = whole.row_range(4, 6), middle = whole.row_range(3, 3);
  CHECK(!overlap(top, bottom));
  CHECK(!overlap(bottom, top));
  CHECK(overlap(top, middle));
  CHECK(overlap(middle, bottom));
  CHECK(!overlap(top.transposed(), bottom.transposed()));
  CHECK(!overlap(whole.columns(0, 3), whole.columns(3, 2)));
  CHECK(overlap(whole.columns(0, 3), whole.columns(2, 2)));
  CHECK(!overlap(top.columns(0, 5), bottom.columns(3, 5)));
  CHECK(overlap(whole, whole.transposed()));
  CHECK(!overlap(whole.columns(0, 0), whole));
  std::vector<float> other(5);
  CHECK(!overlap(whole, col_major(other.data(), 5, 1)));
  // single columns, whose leading dimension says nothing
  auto const column = row_major(x.data(), 5, 1), shifted = row_major(x.data() + 2, 5, 1);
  CHECK(overlap(column, shifted));
  CHECK(overlap(shifted, column));
  CHECK(!overlap(column, row_major(x.data() + 5, 5, 1)));
  CHECK(overlap(col_major(x.data(), 1, 5), col_major(x.data() + 2, 1, 5)));
  CHECK_THROWS_AS(require_distinct(top, middle, "f", "y", "x"), alias_error);
  CHECK_NOTHROW(require_distinct(top, bottom, "f", "y", "x"));
  CHECK_NOTHROW(require_same_or_distinct(top, top, "f", "y", "x"));
  CHECK_NOTHROW(require_same_or_distinct(top, bottom, "f", "y", "x"));
  CHECK_THROWS_AS(require_same_or_distinct(top, middle, "f", "y", "x"), alias_error);
  CHECK_THROWS_AS(
      require_same_or_distinct(whole.row_range(0, 10).columns(0, 10), whole.columns(0, 10).transposed(), "f", "y", "x"),
      alias_error);
}
