#include <loraga/init/gaussian.hpp>

#include "checks.hpp"

TEST_CASE("gaussian: A ~ N(0, 1/r^2), B zero", "[init]") {
  auto be = test::make_backend();
  loraga::lora<float, test::backend> ad(be, 50, 2000, 8, loraga::classic_scaling{});
  loraga::initialise(be, ad, loraga::gaussian_init{.seed = 1});
  auto const a = test::download(be, ad.a());
  CHECK(test::largest(test::download(be, ad.b())) == 0);
  CHECK(test::norm(a) * test::norm(a) / 16000 == Approx(1.0 / 64).epsilon(0.03));
  CHECK(test::largest(a) > 3.0 / 8);
}
