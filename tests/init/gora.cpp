#include <loraga/gradient/background.hpp>
#include <loraga/gradient/incremental.hpp>
#include <loraga/gradient/offloaded.hpp>
#include <loraga/init/gora.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

/// The projector on A's rows.
host row_projector(host const& a) {
  auto const t = test::jacobi_svd(a);
  host const v = test::columns(t.v, 0, a.rows);
  return v * test::transpose(v);
}

}  // namespace

TEST_CASE("gora_init: s*B*A is the step on the rows of a random A, whatever s is", "[init]") {
  test::fixture<> f(12, 9, 3);
  for (double const alpha : {4.0, 16.0}) {
    lora<float, test::backend> ad(f.be, 12, 9, 3, rank_stable_scaling{alpha}), plain(f.be, 12, 9, 3, classic_scaling{});
    initialise(f.be, ad, gora_init{.step = 0.25, .seed = 5}, f.gradient, no_anchor{});
    initialise(f.be, plain, kaiming_init{5});
    host const a = test::download(f.be, ad.a());
    CHECK(test::distance(a, test::download(f.be, plain.a())) == 0);
    host const step = -0.25 * std::sqrt(3.0) * (f.g * row_projector(a));
    CHECK(test::distance(test::change_of(f.be, ad), step) < 1e-5);
  }
}

TEST_CASE("gora_init: as large as the step on average, and the step itself at full rank", "[init]") {
  test::fixture<> wide(10, 16, 4);
  double squares = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    lora<float, test::backend> ad(wide.be, 10, 16, 4, rank_stable_scaling{});
    initialise(wide.be, ad, gora_init{.seed = seed}, wide.gradient, no_anchor{});
    double const share = test::norm(test::change_of(wide.be, ad)) / test::norm(wide.g) / 0.05;
    squares += share * share / 200;
  }
  CHECK(squares == Approx(1).epsilon(0.05));
  test::fixture<> f(12, 9, 9);
  lora<float, test::backend> all(f.be, 12, 9, 9, rank_stable_scaling{});
  initialise(f.be, all, gora_init{}, f.weight.view(), f.gradient, no_anchor{});
  CHECK(test::distance(test::change_of(f.be, all), -0.05 * f.g) < 1e-4 * 0.05 * test::norm(f.g));
}

TEST_CASE("gora_init takes any accumulator, 16-bit adapters and anchors", "[init]") {
  test::fixture<> f(40, 30, 4);
  auto const step = [&](auto const& ad) {
    return -0.05 * std::sqrt(30.0 / 4) * (f.g * row_projector(test::download(f.be, ad.a())));
  };
  auto const check = [&](auto& g) {
    g.add(f.be, test::upload<float>(f.be, f.g).view());
    lora<float, test::backend> ad(f.be, 40, 30, 4, rank_stable_scaling{});
    initialise(f.be, ad, gora_init{}, g, no_anchor{});
    CHECK(test::distance(test::change_of(f.be, ad), step(ad)) < 1e-4);
  };
  background_worker<test::backend> worker(f.be);
  incremental_gradient<test::backend> kept(f.be, 40, 30, {.rank = 4, .width = 30});
  offloaded_gradient<test::backend> home(worker, f.be, 40, 30);
  background_gradient<dense_gradient<test::backend>, test::backend> behind(worker, 40, 30);
  dense_gradient<test::backend, double> wide(f.be, 40, 30);
  check(kept), check(home), check(behind), check(wide);
  lora<bf16, test::backend> narrow(f.be, 40, 30, 4, rank_stable_scaling{});
  initialise(f.be, narrow, gora_init{}, f.gradient, no_anchor{});
  CHECK(test::distance(test::change_of(f.be, narrow), step(narrow)) < 4e-3 * test::norm(step(narrow)));
  test::check_anchored_start(40, 30, 4, gora_init{}, f.gradient);
}

TEST_CASE("gora_init refuses what it cannot use, and changes nothing", "[init]") {
  test::fixture<> f(12, 9, 3);
  lora<float, test::backend> none(f.be, 12, 9, 3, rank_stable_scaling{}), still(f.be, 12, 9, 3, rank_stable_scaling{0}),
      wide(f.be, 12, 9, 10, rank_stable_scaling{});
  auto const start = [&](auto& ad, double step) { initialise(f.be, ad, gora_init{step}, f.gradient, no_anchor{}); };
  CHECK_THROWS_AS(start(none, 0), value_error);
  CHECK_THROWS_AS(start(none, INFINITY), value_error);
  CHECK_THROWS_AS(start(still, 1), value_error);
  CHECK_THROWS_AS(start(wide, 1), shape_error);
  dense_gradient<test::backend> empty(f.be, 12, 9), zero(f.be, 12, 9), bad(f.be, 12, 9), other(f.be, 9, 12);
  CHECK_THROWS_AS(initialise(f.be, none, gora_init{}, empty, no_anchor{}), state_error);
  other.add(f.be, f.weight.view().transposed());
  CHECK_THROWS_AS(initialise(f.be, none, gora_init{}, other, no_anchor{}), shape_error);
  zero.add(f.be, test::upload<float>(f.be, host(12, 9)).view());
  CHECK_THROWS_WITH(initialise(f.be, none, gora_init{}, zero, no_anchor{}), Catch::Contains("is zero"));
  bad.add(f.be, test::upload<float>(f.be, host(12, 9, NAN)).view());
  CHECK_THROWS_WITH(initialise(f.be, none, gora_init{}, bad, no_anchor{}),
                    Catch::Contains("not finite") && !Catch::Contains("leads to"));
  dense_gradient<test::backend> tiny(f.be, 12, 9);
  tiny.add(f.be, f.weight.view(), 1);
  CHECK_THROWS_WITH(initialise(f.be, none, gora_init{1e-45}, tiny, no_anchor{}), Catch::Contains("B would be 0"));
  CHECK(test::largest(test::download(f.be, none.a())) == 0);
}

TEST_CASE("gora_init on a batch of two shapes: each layer from its own gradient, a bad one named and left", "[init]") {
  test::fixture<> first(12, 9, 3), second(20, 9, 3), third(12, 9, 3);
  second.be.synchronize();  // on a GPU each fixture has a stream of its own
  third.be.synchronize();
  first.gradient.add(first.be, first.weight.view());
  second.gradient.add(first.be, test::upload<float>(first.be, host(20, 9, NAN)).view());
  lora<float, test::backend> a(first.be, 12, 9, 3, rank_stable_scaling{}), b(first.be, 20, 9, 3, rank_stable_scaling{}),
      c(first.be, 12, 9, 3, rank_stable_scaling{});
  using one_layer = layer<lora<float, test::backend>, test::view<float>, dense_gradient<test::backend>>;
  std::vector<one_layer> const layers{{&a, first.weight.view(), &first.gradient, "first"},
                                      {&b, second.weight.view(), &second.gradient, "second"},
                                      {&c, third.weight.view(), &third.gradient, "third"}};
  CHECK_THROWS_WITH(initialise(first.be, std::span<one_layer const>(layers), gora_init{}, no_anchor{}),
                    Catch::Contains("second is not finite") && !Catch::Contains("first") && !Catch::Contains("third"));
  CHECK(test::largest(test::download(first.be, b.b())) == 0);
  auto const step = [&](auto& ad, host const& g) {
    return -0.05 * std::sqrt(3.0) * (g * row_projector(test::download(first.be, ad.a())));
  };
  CHECK(test::distance(test::change_of(first.be, a), step(a, 0.5 * (first.g + first.w))) < 1e-5);
  CHECK(test::distance(test::change_of(first.be, c), step(c, third.g)) < 1e-5);
}

TEST_CASE("gora_importance is the mean of |W*G|, in any layout", "[init]") {
  test::fixture<> f(12, 9, 3);
  double sum = 0;
  for (index_t j = 0; j < 9; ++j)
    for (index_t i = 0; i < 12; ++i) sum += std::abs(f.w(i, j) * f.g(i, j));
  CHECK(gora_importance(f.be, f.weight.view(), f.gradient) == Approx(sum / 108).epsilon(1e-6));
  dense_gradient<test::backend> turned(f.be, 9, 12), bad(f.be, 12, 9);
  CHECK_THROWS_AS(gora_importance(f.be, f.weight.view(), turned), shape_error);
  CHECK_THROWS_AS(gora_importance(f.be, f.weight.view().transposed(), turned), state_error);
  turned.add(f.be, test::upload<float>(f.be, test::transpose(f.g)).view());
  CHECK(gora_importance(f.be, f.weight.view().transposed(), turned) == Approx(sum / 108).epsilon(1e-6));
  bad.add(f.be, test::upload<float>(f.be, host(12, 9, INFINITY)).view());
  CHECK_THROWS_AS(gora_importance(f.be, f.weight.view(), bad), numeric_error);
}
