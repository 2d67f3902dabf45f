#include <loraga/scaling.hpp>

#include "support/catch.hpp"

using namespace loraga;

TEST_CASE("scalings", "[scaling]") {
  CHECK(classic_scaling{16}.scale(100, 50, 8) == 2);
  CHECK(rank_stable_scaling{16}.scale(100, 50, 4) == 8);
  CHECK(constant_scaling{0.3}.scale(1, 1, 1) == 0.3);
  CHECK(classic_scaling{0}.scale(1, 1, 1) == 0);
  CHECK_THROWS_AS(classic_scaling{INFINITY}.scale(1, 1, 1), value_error);
  CHECK_THROWS_AS(rank_stable_scaling{NAN}.scale(1, 1, 1), value_error);
  CHECK_THROWS_AS(constant_scaling{NAN}.scale(1, 1, 1), value_error);
}
