#include <cmath>
#include <limits>
#include <loraga/core/bits.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("finite and NaN are read from the bits", "[core]") {
  using limits = std::numeric_limits<double>;
  for (double const x : {0.0, -0.0, 1.5, limits::max(), -limits::max(), limits::denorm_min()}) {
    CHECK(is_finite(x));
    CHECK(!is_nan(x));
  }
  for (double const x : {INFINITY, -INFINITY}) {
    CHECK(!is_finite(x));
    CHECK(!is_nan(x));
  }
  for (double const x : {limits::quiet_NaN(), -limits::quiet_NaN(), limits::signaling_NaN()}) {
    CHECK(!is_finite(x));
    CHECK(is_nan(x));
  }
  CHECK(bits_as<std::uint32_t>(1.0f) == 0x3f800000u);
}
