#include <loraga/init/lora_sb.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

TEST_CASE("lora_sb_init: s*B*A is the step, whatever s is; bad input is refused", "[init]") {
  test::fixture<> f(12, 9, 3);
  auto const t = test::jacobi_svd(f.g);
  host const leading = test::columns(t.u, 0, 3) * test::diagonal(3, 3, {t.s[0], t.s[1], t.s[2]}) *
                       test::transpose(test::columns(t.v, 0, 3));
  for (double const alpha : {4.0, 16.0}) {
    lora<float, test::backend> ad(f.be, 12, 9, 3, rank_stable_scaling{alpha});
    initialise(f.be, ad, lora_sb_init{.step = 0.25}, f.weight.view(), gram{}, f.gradient, no_anchor{});
    CHECK(test::distance(test::change_of(f.be, ad), -0.25 * leading) < 1e-5);
  }
  lora<float, test::backend> none(f.be, 12, 9, 3, rank_stable_scaling{}), still(f.be, 12, 9, 3, rank_stable_scaling{0}),
      wide(f.be, 12, 9, 10, rank_stable_scaling{});
  auto const start = [&](auto& ad, double step) {
    initialise(f.be, ad, lora_sb_init{step}, gram{}, f.gradient, no_anchor{});
  };
  CHECK_THROWS_AS(start(none, 0), value_error);
  CHECK_THROWS_AS(start(none, INFINITY), value_error);
  CHECK_THROWS_AS(start(still, 1), value_error);
  CHECK_THROWS_AS(start(wide, 1), shape_error);
  CHECK(test::largest(test::download(f.be, none.a())) == 0);
}
