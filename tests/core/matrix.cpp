#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("owned matrices are column-major and move", "[core]") {
  auto be = test::make_backend();
  auto m = test::upload<float>(be, test::random(3, 4, 1));
  auto const before = test::download(be, m.view());
  CHECK(m.view().row_stride == 1);
  CHECK(m.view().col_stride == 3);
  auto const moved = std::move(m);
  CHECK(test::distance(before, test::download(be, moved.view())) == 0);
  CHECK(matrix<float, test::backend>().rows() == 0);
  CHECK_THROWS_AS((matrix<float, test::backend>(be, -1, 2)), shape_error);
}

TEST_CASE("a slab's matrices lie back to back", "[core]") {
  auto be = test::make_backend();
  slab<float, test::backend> s(be, 3, 2, 5);
  CHECK(s.view()[1].data == s.view().data + 10);
  CHECK(s.view().side_by_side().cols == 15);
  CHECK(s.count() == 3);
}
