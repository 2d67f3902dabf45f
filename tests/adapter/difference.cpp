#include <loraga/adapter/difference.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("the difference of two products is right, and exactly 0 where they are the same", "[adapter]") {
  auto be = test::make_backend();
  auto const l = test::random(6, 2, 1), r = test::random(2, 5, 2), l0 = test::random(6, 3, 3),
             r0 = test::random(3, 5, 4), y = test::random(6, 5, 5);
  auto const dl = test::upload<float>(be, l), dr = test::upload<float>(be, r), dl0 = test::upload<float>(be, l0),
             dr0 = test::upload<float>(be, r0);
  auto dy = test::upload<float>(be, y);
  add_product_difference(be, 1.5, dl.view(), dr.view(), dl0.view(), dr0.view(), 0.5, dy.view());
  CHECK(test::distance(test::download(be, dy.view()), 1.5 * (l * r - l0 * r0) + 0.5 * y) < 1e-5);
  add_product_difference(be, 1.5, dl.view(), dr.view(), dl.view(), dr.view(), 0, dy.view());
  CHECK(test::largest(test::download(be, dy.view())) == 0);
}
