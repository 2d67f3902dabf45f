// docs/mathematics.md, golden case 8: edges with a defined answer that no other test file covers.
#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;

TEST_CASE("edge: layers with one output", "[golden]") {
  auto be = test::make_backend();
  host const g = test::random(1, 9, 2);
  dense_gradient<test::backend> gradient(be, 1, 9);
  gradient.add(be, test::upload<float>(be, g).view());
  auto const r = gradient.top(be, automatic_svd{}, 1);
  CHECK(test::download_triplets(be, r).s[0] == Approx(test::norm(g)).epsilon(1e-5));
  lora<float, test::backend> ad(be, 1, 9, 1, classic_scaling{});
  auto w = test::upload<float>(be, host(1, 9));
  CHECK_THROWS_AS(initialise(be, ad, lora_ga_init{}, w.view(), automatic_svd{}, gradient, in_place_anchor{}),
                  shape_error);
  CHECK_NOTHROW(initialise(be, ad, kaiming_init{}));
}

TEST_CASE("edge: the largest rank LoRA-GA accepts uses every direction", "[golden]") {
  test::fixture<> f(10, 8, 4);
  lora<float, test::backend> ad(f.be, 10, 8, 4, rank_stable_scaling{});
  initialise(f.be, ad, lora_ga_init{.scale = ga_scale::unit}, gram{}, f.gradient, frozen_pair_anchor{});
  CHECK(test::orthonormality(download(f.be, ad.b())) < 1e-5);
  auto const best = f.gradient.top(f.be, gram{}, 8);
  CHECK(first_step_alignment(f.be, f.gradient.sum(), ad.a(), ad.b(), best).cosine == Approx(1).epsilon(1e-5));
}

TEST_CASE("edge: a module that is never called keeps an empty accumulator, which initialise names", "[golden]") {
  auto be = test::make_backend();
  dense_gradient<test::backend> never(be, 8, 8);
  lora<float, test::backend> ad(be, 8, 8, 2, rank_stable_scaling{});
  CHECK_THROWS_WITH(initialise(be, ad, lora_ga_init{}, automatic_svd{}, never, frozen_pair_anchor{}),
                    Catch::Contains("empty accumulator"));
}

TEST_CASE("edge: a module used twice adds to one accumulator; both uses count", "[golden]") {
  auto be = test::make_backend();
  host const dy1 = test::random(8, 5, 1), x1 = test::random(6, 5, 2), dy2 = test::random(8, 7, 3),
             x2 = test::random(6, 7, 4);
  dense_gradient<test::backend, double> shared(be, 8, 6);
  shared.add_outer(be, test::upload<double>(be, dy1).view(), test::upload<double>(be, x1).view());
  shared.add_outer(be, test::upload<double>(be, dy2).view(), test::upload<double>(be, x2).view());
  CHECK(test::distance(download(be, shared.sum()), dy1 * test::transpose(x1) + dy2 * test::transpose(x2)) < 1e-13);
  CHECK(shared.count() == 2);
}

TEST_CASE("edge: alpha = 0 starts, changes nothing, and learns nothing", "[golden]") {
  test::fixture<> f(12, 10, 2);
  lora<float, test::backend> ad(f.be, 12, 10, 2, rank_stable_scaling{0});
  initialise(f.be, ad, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
  CHECK(test::distance(download(f.be, f.weight.view()), download(f.be, test::upload<float>(f.be, f.w).view())) == 0);
  CHECK(test::largest(download(f.be, ad.a())) > 0);
  auto x = test::upload<float>(f.be, test::random(10, 5, 1)), y = test::upload<float>(f.be, test::random(12, 5, 2));
  decltype(ad)::tape t;
  ad.forward(f.be, f.weight.view(), x.view(), y.view(), t);
  (void)ad.backward(f.be, f.weight.view(), x.view(), y.view(), t, 0.0, test::view<float>{});
  CHECK(test::largest(download(f.be, ad.gradient())) == 0);
}
