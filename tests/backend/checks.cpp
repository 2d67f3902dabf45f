#include <loraga/backend/checks.hpp>

#include "../support/catch.hpp"

using namespace loraga;
using floats = matrix_view<float, host_space>;

TEST_CASE("BLAS's reading of a view", "[backend]") {
  float memory[64] = {};
  CHECK(by_columns(floats(memory, 4, 3, 1, 5)));
  CHECK(leading_dimension(floats(memory, 4, 3, 1, 5)) == 5);
  CHECK(!by_columns(floats(memory, 4, 3, 5, 1)));
  CHECK(leading_dimension(floats(memory, 4, 3, 5, 1)) == 5);
  CHECK(by_columns(floats(memory, 1, 3, 7, 4)));  // a row of any stride
  CHECK(leading_dimension(floats(memory, 1, 3, 7, 4)) == 4);
  CHECK(!by_columns(floats(memory, 4, 1, 3, 1)));  // a column with gaps is a row
  CHECK(leading_dimension(floats(memory, 4, 1, 3, 1)) == 3);
  CHECK(leading_dimension(floats(memory, 0, 0, 1, 0)) == 1);
  CHECK(leading_dimension(floats(memory, 4, 1, 1, 0)) == 4);
}

TEST_CASE("products that cannot be formed are refused under the caller's name", "[backend]") {
  float memory[64] = {};
  floats const a(memory, 2, 3, 1, 2), b(memory + 8, 3, 4, 1, 3), c(memory + 32, 2, 4, 1, 2);
  CHECK_NOTHROW(require_product(a, b, c, "here"));
  CHECK_THROWS_WITH(require_product(b, a, c, "here"), Catch::StartsWith("here: "));
  CHECK_THROWS_AS(require_product(a, b, floats(memory, 2, 4, 1, 2), "here"), alias_error);
  CHECK_THROWS_AS(require_product(a, floats(nullptr, 3, 4, 1, 3), c, "here"), shape_error);
  CHECK_THROWS_AS(require_count(view_list<float, host_space>(&a, 1), 2, "here", "a"), shape_error);
}
