#include <loraga/init/milora.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

TEST_CASE("MiLoRA takes over the minor part of W, with s divided out, tall and wide", "[init]") {
  for (auto const& [out, in] : {std::pair{30, 20}, {20, 30}}) {
    auto be = test::make_backend();
    host const w = test::with_spectrum(out, in, test::geometric(20, 0.8), 3);
    auto dw = test::upload<float>(be, w);
    lora<float, test::backend> ad(be, out, in, 4, classic_scaling{8});
    initialise(be, ad, milora_init{}, dw.view(), gram{}, in_place_anchor{});
    auto const t = test::jacobi_svd(w);
    host const minor = test::columns(t.u, 16, 4) * test::diagonal(4, 4, {t.s[16], t.s[17], t.s[18], t.s[19]}) *
                       test::transpose(test::columns(t.v, 16, 4));
    host const a = test::download(be, ad.a()), b = test::download(be, ad.b());
    CHECK(test::distance(ad.scale() * (b * a), minor) < 1e-5);
    CHECK(test::distance(test::download(be, dw.view()), w - minor) < 1e-5);
    CHECK(test::distance(a * test::transpose(a), 0.5 * test::diagonal(4, 4, {t.s[16], t.s[17], t.s[18], t.s[19]})) <
          1e-5);  // split evenly: AAT = BTB = S/s
    CHECK(test::distance(test::transpose(b) * b, a * test::transpose(a)) < 1e-5);
  }
  test::check_anchored_start(30, 20, 4, milora_init{}, gram{});
}

TEST_CASE("MiLoRA: at full rank it is all of W; larger, or s <= 0, is refused", "[init]") {
  auto be = test::make_backend();
  host const w = test::random(6, 5, 1);
  auto dw = test::upload<float>(be, w);
  lora<float, test::backend> all(be, 6, 5, 5, classic_scaling{}), wide(be, 6, 5, 6, classic_scaling{}),
      zero(be, 6, 5, 2, classic_scaling{0});
  initialise(be, all, milora_init{}, dw.view(), gram{}, frozen_pair_anchor{});
  CHECK(test::distance(all.scale() * (test::download(be, all.b()) * test::download(be, all.a())), w) < 1e-5);
  CHECK_THROWS_AS(initialise(be, wide, milora_init{}, dw.view(), gram{}, in_place_anchor{}), shape_error);
  CHECK_THROWS_AS(initialise(be, zero, milora_init{}, dw.view(), gram{}, in_place_anchor{}), value_error);
}

TEST_CASE("MiLoRA: a minor part of W that is zero would never learn and is refused; NaN as well", "[init]") {
  auto be = test::make_backend();
  auto low = test::upload<float>(be, test::with_spectrum(12, 8, {3, 2, 1}, 7)),
       bad = test::upload<float>(be, host(12, 8, NAN));
  lora<float, test::backend> dead(be, 12, 8, 4, classic_scaling{}), ad(be, 12, 8, 6, classic_scaling{});
  CHECK_THROWS_WITH(initialise(be, dead, milora_init{}, low.view(), gram{}, in_place_anchor{}),
                    Catch::Contains("never learns"));
  CHECK(!dead.anchored_in_place());
  CHECK_THROWS_AS(initialise(be, ad, milora_init{}, bad.view(), gram{}, in_place_anchor{}), numeric_error);
  CHECK(test::largest(test::download(be, ad.a())) == 0);
  CHECK_NOTHROW(initialise(be, ad, milora_init{}, low.view(), gram{}, in_place_anchor{}));  // one rank is alive
}
