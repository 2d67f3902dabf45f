#include <loraga/init/orthogonal.hpp>

#include "checks.hpp"

using test::host;

TEST_CASE("orthogonal: both factors are non-zero, their product is zero", "[init]") {
  auto be = test::make_backend();
  loraga::lora<double, test::backend> ad(be, 60, 500, 8, loraga::classic_scaling{});
  loraga::initialise(be, ad, loraga::orthogonal_init{.seed = 1});
  host const a = test::download(be, ad.a()), b = test::download(be, ad.b());
  CHECK(test::largest(b * a) < 1e-14);
  // each column of A is half of an orthogonal matrix times N(0, 1)/10
  CHECK(test::norm(a) * test::norm(a) / 500 == Approx(4 * 0.01).epsilon(0.1));
  CHECK(test::norm(b) * test::norm(b) / 60 == Approx(4 * 0.01).epsilon(0.3));
  auto const spectrum = test::jacobi_svd(a).s;
  CHECK(spectrum[3] > 0.1);
  CHECK(spectrum[4] < 1e-13);
  loraga::lora<float, test::backend> odd(be, 60, 50, 5, loraga::classic_scaling{});
  CHECK_THROWS_AS(loraga::initialise(be, odd, loraga::orthogonal_init{}), loraga::value_error);
}
