#include <loraga/core/batch.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("a slab is equal matrices at a distance", "[core]") {
  std::vector<float> x(24);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  slab_view<float, host_space> const s(x.data(), 4, 2, 3, 1, 2, 6);
  CHECK(s[2](1, 1) == 15);
  CHECK(s.transposed()[2](1, 1) == 15);
  CHECK(s.transposed().rows == 3);
  CHECK(s.columns(1, 2)[3](0, 0) == 20);
  CHECK(s.matrices(1, 2)[1](0, 0) == 12);
  auto const flat = s.side_by_side();
  CHECK(flat.cols == 12);
  CHECK(flat(1, 7) == s[2](1, 1));
  CHECK_THROWS_AS(s.columns(0, 2).side_by_side(), shape_error);
  CHECK_THROWS_AS(s.transposed().side_by_side(), shape_error);
}

TEST_CASE("a list shows matrices anywhere, transposed at will", "[core]") {
  std::vector<float> a{1, 2, 3, 4, 5, 6}, b{7, 8, 9, 10, 11, 12};
  matrix_view<float, host_space> const views[] = {col_major(a.data(), 2, 3), row_major(b.data(), 2, 3)};
  view_list const list(views, 2);
  CHECK(list.rows == 2);
  CHECK(list[1](1, 0) == 10);
  CHECK(list.transposed()[1](0, 1) == 10);
  CHECK(list.transposed().rows == 3);
  CHECK(list.transposed().transposed()[0](1, 2) == 6);
  CHECK(list.matrices(1, 1)[0](0, 0) == 7);
}
