#include <loraga/diagnostics/alignment.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::host;
using test::transpose;

TEST_CASE("cosine of matrices", "[diagnostics]") {
  auto be = test::make_backend();
  host const x = test::random(9, 7, 1), y = test::random(9, 7, 2);
  auto dx = test::upload<float>(be, x), dy = test::upload<float>(be, y), zero = test::upload<float>(be, host(9, 7));
  CHECK(cosine(be, dx.view(), dy.view()) == Approx(test::inner(x, y) / test::norm(x) / test::norm(y)).epsilon(1e-5));
  CHECK(cosine(be, dx.view(), test::upload<float>(be, -3.0 * x).view()) == Approx(-1));
  CHECK_THROWS_AS(cosine(be, dx.view(), zero.view()), numeric_error);
  CHECK_THROWS_AS(cosine(be, dx.view(), dy.view().columns(0, 3)), shape_error);
}

TEST_CASE("LoRA-GA's first step captures all a rank-2r step can, LoRA's does not", "[diagnostics]") {
  test::fixture<> f(30, 24, 3);
  auto const best = f.gradient.top(f.be, gram{}, 6);
  auto const t = test::jacobi_svd(f.g);
  double top = 0;
  for (std::size_t i = 0; i < 6; ++i) top += t.s[i] * t.s[i];
  double const limit = std::sqrt(top) / test::norm(f.g);
  for (auto const d : {ga_directions::ArB2r, ga_directions::A2rBr, ga_directions::ArBr, ga_directions::random}) {
    lora<float, test::backend> ad(f.be, 30, 24, 3, rank_stable_scaling{});
    initialise(f.be, ad, lora_ga_init{.directions = d}, gram{}, f.gradient, frozen_pair_anchor{});
    auto const s = first_step_alignment(f.be, f.gradient.sum(), ad.a(), ad.b(), best);
    CHECK(s.cosine == Approx(limit).epsilon(1e-5));
    CHECK(s.attained == Approx(1).epsilon(1e-4));
  }
  lora<float, test::backend> plain(f.be, 30, 24, 3, classic_scaling{});
  initialise(f.be, plain, kaiming_init{.seed = 1});
  auto const s = first_step_alignment(f.be, f.gradient.sum(), plain.a(), plain.b(), best);
  host const a = test::download(f.be, plain.a());
  host const step = f.g * transpose(a) * a;
  CHECK(s.cosine == Approx(test::inner(step, f.g) / test::norm(step) / test::norm(f.g)).epsilon(1e-4));
  CHECK(s.attained < 0.5);
  CHECK_THROWS_AS(first_step_alignment(f.be, f.gradient.sum(), plain.a(), plain.b(), f.gradient.top(f.be, gram{}, 5)),
                  shape_error);
  svd_result<float, test::backend> const none(f.be, 0, 30, 24, 6);
  CHECK_THROWS_AS(first_step_alignment(f.be, f.gradient.sum(), plain.a(), plain.b(), none), shape_error);
}
