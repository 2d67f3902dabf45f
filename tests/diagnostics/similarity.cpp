#include <loraga/diagnostics/similarity.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

TEST_CASE("shares of equal signs and of magnitudes within a factor of ten", "[diagnostics]") {
  auto be = test::make_backend();
  host x(2, 3), y(2, 3);
  x.data = {1, -1, 2, 0, 0, 3};
  y.data = {2, 1, 19, 0, 1, 30.5};
  auto dx = test::upload<float>(be, x), dy = test::upload<float>(be, y);
  CHECK(sign_similarity(be, dx.view(), dy.view()) == Approx(4.0 / 6));
  CHECK(magnitude_similarity(be, dx.view(), dy.view()) == Approx(4.0 / 6));
  CHECK(sign_similarity(be, dx.view(), dx.view()) == 1);
  auto low = test::upload<bf16>(be, x);
  CHECK(magnitude_similarity(be, low.view(), dx.view()) == 1);
  CHECK_THROWS_AS(sign_similarity(be, dx.view(), dy.view().columns(0, 2)), shape_error);
  auto bad = test::upload<float>(be, host(2, 3, NAN));
  CHECK_THROWS_AS(sign_similarity(be, dx.view(), bad.view()), numeric_error);
  CHECK_THROWS_AS(magnitude_similarity(be, bad.view(), dy.view()), numeric_error);
  CHECK_THROWS_AS(magnitude_similarity(be, dx.view().columns(0, 0), dy.view().columns(0, 0)), shape_error);
}
