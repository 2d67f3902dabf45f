#include <loraga/init/pissa.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

TEST_CASE("PiSSA takes over the principal part of W, with s divided out", "[init]") {
  for (double const alpha : {8.0, 32.0}) {
    auto be = test::make_backend();
    host const w = test::with_spectrum(30, 20, test::geometric(20, 0.8), 3);
    auto dw = test::upload<float>(be, w);
    lora<float, test::backend> ad(be, 30, 20, 4, classic_scaling{alpha});
    initialise(be, ad, pissa_init{}, dw.view(), gram{}, in_place_anchor{});
    auto const t = test::jacobi_svd(w);
    host const principal = test::columns(t.u, 0, 4) * test::diagonal(4, 4, {t.s[0], t.s[1], t.s[2], t.s[3]}) *
                           test::transpose(test::columns(t.v, 0, 4));
    host const a = test::download(be, ad.a()), b = test::download(be, ad.b());
    CHECK(test::distance(ad.scale() * (b * a), principal) < 1e-5);
    CHECK(test::distance(test::download(be, dw.view()), w - principal) < 1e-5);
    // split evenly: AAT = BTB = S/s
    CHECK(test::distance(a * test::transpose(a), test::transpose(b) * b) < 1e-5);
  }
}

TEST_CASE("PiSSA refuses s <= 0, too large a rank, a bad weight", "[init]") {
  auto be = test::make_backend();
  auto w = test::upload<float>(be, test::random(6, 5, 1));
  lora<float, test::backend> zero(be, 6, 5, 2, classic_scaling{0}), wide(be, 6, 5, 6, classic_scaling{}),
      good(be, 6, 5, 2, classic_scaling{});
  CHECK_THROWS_AS(initialise(be, zero, pissa_init{}, w.view(), gram{}, in_place_anchor{}), value_error);
  CHECK_THROWS_AS(initialise(be, wide, pissa_init{}, w.view(), gram{}, in_place_anchor{}), shape_error);
  auto bad = test::upload<float>(be, host(6, 5, INFINITY));
  CHECK_THROWS_AS(initialise(be, good, pissa_init{}, bad.view(), gram{}, in_place_anchor{}), numeric_error);
  CHECK(test::largest(test::download(be, good.a())) == 0);
}
