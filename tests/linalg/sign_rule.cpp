#include <loraga/linalg/sign_rule.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

TEST_CASE("the largest entry of each u becomes positive, the first one on a tie; v follows", "[linalg]") {
  auto be = test::make_backend();
  host u(40, 3), v(5, 3);
  u(33, 0) = -2, u(3, 0) = 1, v(0, 0) = 1;   // negated
  u(7, 1) = 3, u(8, 1) = -2.5, v(1, 1) = 1;  // kept
  u(4, 2) = -1, u(20, 2) = 1, v(2, 2) = 1;   // a tie: the first entry is negative
  auto du = test::upload<float>(be, u), dv = test::upload<float>(be, v);
  apply_sign_rule(be, du.view(), dv.view());
  host const hu = test::download(be, du.view()), hv = test::download(be, dv.view());
  CHECK(hu(33, 0) == 2);
  CHECK(hu(3, 0) == -1);
  CHECK(hv(0, 0) == -1);
  CHECK(hu(7, 1) == 3);
  CHECK(hv(1, 1) == 1);
  CHECK(hu(4, 2) == 1);
  CHECK(hu(20, 2) == -1);
  CHECK(hv(2, 2) == -1);
}
