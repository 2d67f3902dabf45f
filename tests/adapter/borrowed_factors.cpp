#include <loraga/adapter/borrowed_factors.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("borrowed memory must fit together and not overlap", "[adapter]") {
  auto be = test::make_backend();
  matrix<float, test::backend> a(be, 2, 6), b(be, 8, 2), da(be, 2, 6), db(be, 8, 2);
  borrowed_factors<float, test::space> const good{a.view(), b.view(), da.view(), db.view()};
  CHECK_NOTHROW(good.check(8, 6, 2, true));
  auto bad = good;
  bad.da = {};
  CHECK_NOTHROW(bad.check(8, 6, 2, false));  // gradients that nobody needs
  CHECK_THROWS_AS(bad.check(8, 6, 2, true), shape_error);
  CHECK_THROWS_AS(good.check(8, 5, 2, true), shape_error);
  bad = good;
  bad.da = bad.a;
  CHECK_THROWS_AS(bad.check(8, 6, 2, true), alias_error);
  bad = good;
  bad.db = bad.b;
  CHECK_THROWS_AS(bad.check(8, 6, 2, true), alias_error);
}
