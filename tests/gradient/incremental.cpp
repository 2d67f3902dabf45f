#include <loraga/gradient/incremental.hpp>

#include "checks.hpp"

namespace {

template <class T>
auto const make_incremental = [](test::backend& be, loraga::index_t out, loraga::index_t in) {
  return loraga::incremental_gradient<test::backend, T>(be, out, in, {.rank = 5});
};

}  // namespace

TEMPLATE_TEST_CASE("incremental_gradient follows the weighted mean up to truncation", "[gradient]", float, double) {
  test::check_accumulator<TestType>(make_incremental<TestType>, 5e-3);
  test::check_accumulator_edges<TestType>(make_incremental<TestType>);
}

TEST_CASE("a width that holds the small side is exact", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(25, 12, 30, 6, 0.5);
  loraga::incremental_gradient<test::backend, double> g(be, 25, 12, {.rank = 3});
  CHECK(g.width() == 12);
  test::add_all<double>(be, g, batches, true);
  test::check_top(test::mean_gradient(batches), test::download_triplets(be, g.top(be, loraga::gram{}, 6)), 6, 1e-12);
  CHECK(test::distance(test::read_estimate(be, g), test::mean_gradient(batches)) < 1e-12);
}

TEST_CASE("fewer tokens than the width lose nothing", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(60, 50, 3, 4, 0.5);  // rank 12 in all
  loraga::incremental_gradient<test::backend, double> g(be, 60, 50, {.rank = 4});
  test::add_all<double>(be, g, batches, true);
  test::check_top(test::mean_gradient(batches), test::download_triplets(be, g.top(be, loraga::gram{}, 8)), 8, 1e-12);
}

TEST_CASE("power steps and width buy accuracy", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(80, 70, 100, 6, 0.3);
  auto const mean = test::mean_gradient(batches);
  auto const loss = [&](loraga::gradient_options o) {
    loraga::incremental_gradient<test::backend> g(be, 80, 70, o);
    test::add_all<float>(be, g, batches, true);
    auto const got = test::download_triplets(be, g.top(be, loraga::gram{}, 8));
    auto const want = test::jacobi_svd(mean);
    double best = 0;
    for (std::size_t i = 0; i < 8; ++i) best += want.s[i] * want.s[i];
    double const e = test::norm(test::transpose(got.u) * mean);
    return 1 - e * e / best;
  };
  double const plain = loss({.rank = 4});
  CHECK(plain < 2e-2);
  CHECK(loss({.rank = 4, .power_steps = 1}) < plain);
  CHECK(loss({.rank = 4, .width = 40}) < plain);
}

TEST_CASE("tiny and huge gradients keep their directions", "[gradient]") {
  auto be = test::make_backend();
  auto batches = test::sample(40, 30, 20, 3);
  auto const mean = test::mean_gradient(batches);
  for (double const scale : {1e-26, 1e20}) {
    loraga::incremental_gradient<test::backend> g(be, 40, 30, {.rank = 4, .power_steps = 1});
    for (auto const& b : batches)
      g.add_outer(be, test::upload<float>(be, scale * b.dy).view(), test::upload<float>(be, b.x).view(), b.weight);
    auto t = test::download_triplets(be, g.top(be, loraga::gram{}, 4));
    for (double& s : t.s) s /= scale;
    test::check_top(mean, t, 4, 1e-3);
  }
}

TEST_CASE("bits repeat, for any number of threads; the seed decides them", "[gradient]") {
  auto const batches = test::sample(700, 600, 64, 2);
  auto const bits = [&](int threads, std::uint64_t seed) {
    auto be = test::make_backend(threads);
    loraga::incremental_gradient<test::backend> g(be, 700, 600, {.rank = 8, .seed = seed});
    for (auto const& b : batches)
      g.add_outer(be, test::upload<float>(be, b.dy).view(), test::upload<float>(be, b.x).view(), b.weight);
    return loraga::read_all(be, g.top(be, loraga::gram{}, 16)[0].u);
  };
  CHECK(bits(1, 0) == bits(3, 0));
  CHECK(bits(1, 0) != bits(1, 1));
}

TEST_CASE("bad settings are refused by name", "[gradient]") {
  auto be = test::make_backend();
  using G = loraga::incremental_gradient<test::backend>;
  CHECK_THROWS_AS(G(be, 10, 10, {.rank = 0}), loraga::value_error);
  CHECK_THROWS_AS(G(be, 10, 10, {.rank = 4, .width = 3}), loraga::shape_error);
  CHECK_THROWS_AS(G(be, 10, 10, {.rank = 4, .power_steps = -1}), loraga::value_error);
  CHECK_THROWS_AS(G(be, 10, 0, {.rank = 4}), loraga::shape_error);
  G g(be, 40, 40, {.rank = 2});
  test::add_all<float>(be, g, test::sample(40, 40, 5, 1), true);
  CHECK_THROWS_WITH(g.top(be, loraga::gram{}, 9), Catch::Contains("k is 9, expected 1..8"));
}

TEST_CASE("micro-batches of few tokens, none, or the same again keep what was exact", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(60, 50, 5, 3, 0.5);  // rank 15 in all
  auto const zero = test::host(60, 5);
  for (int const power_steps : {0, 1, 2}) {
    INFO(power_steps << " power steps");
    loraga::incremental_gradient<test::backend, double> g(be, 60, 50, {.rank = 4, .power_steps = power_steps});
    auto const add = [&](test::host const& dy, test::host const& x, double weight) {
      g.add_outer(be, test::upload<double>(be, dy).view(), test::upload<double>(be, x).view(), weight);
    };
    for (auto const& b : batches) {
      add(b.dy, b.x, b.weight);
      add(zero, b.x, b.weight);
      add(b.dy, b.x, b.weight);
    }
    auto const found = g.top(be, loraga::gram{}, 8);
    CHECK(found.flags[0] == loraga::svd_usable);
    test::check_top(2.0 / 3 * test::mean_gradient(batches), test::download_triplets(be, found), 8, 1e-12);
  }
}

TEST_CASE("a micro-batch without a token is a gradient of zero, also as the first one", "[gradient]") {
  auto be = test::make_backend();
  auto const batch = test::sample(60, 50, 5, 1)[0];
  auto const dy = test::upload<float>(be, batch.dy), x = test::upload<float>(be, batch.x);
  for (int const power_steps : {0, 1, 2}) {
    INFO(power_steps << " power steps");
    loraga::incremental_gradient<test::backend, float> g(be, 60, 50, {.rank = 2, .power_steps = power_steps});
    g.add_outer(be, dy.view().columns(0, 0), x.view().columns(0, 0));
    CHECK(g.usable());
    CHECK(g.top(be, loraga::gram{}, 4).flags[0] == loraga::svd_zero);
    g.add_outer(be, dy.view(), x.view());
    g.add_outer(be, dy.view().columns(0, 0), x.view().columns(0, 0));
    CHECK(g.usable());
    auto const found = g.top(be, loraga::gram{}, 4);
    CHECK(found.flags[0] == loraga::svd_usable);
    test::check_top(1.0 / 3 * (batch.dy * test::transpose(batch.x)), test::download_triplets(be, found), 4, 1e-5);
  }
}

TEST_CASE("new directions are found by their tokens' weight", "[gradient]") {
  auto be = test::make_backend();
  loraga::index_t const n = 120, tokens = 90;
  test::host first = test::random(n, tokens, 1), second = test::random(n, tokens, 3);
  for (loraga::index_t t = 0; t < 10; ++t)  // ten heavy tokens in the second micro-batch
    for (loraga::index_t i = 0; i < n; ++i) second(i, t) *= 12;
  test::host const x = test::random(n, tokens, 2), x2 = test::random(n, tokens, 4);
  for (double const scale : {1.0, 1e-15, 1e15}) {
    loraga::incremental_gradient<test::backend> g(be, n, n, {.rank = 5});
    g.add_outer(be, test::upload<float>(be, scale * first).view(), test::upload<float>(be, x).view());
    g.add_outer(be, test::upload<float>(be, scale * second).view(), test::upload<float>(be, x2).view());
    auto const got = test::download_triplets(be, g.top(be, loraga::gram{}, 10));
    test::host const mean = 0.5 * (first * test::transpose(x) + second * test::transpose(x2));
    auto const want = test::jacobi_svd(mean);
    double best = 0;
    for (std::size_t i = 0; i < 10; ++i) best += want.s[i] * want.s[i];
    double const left = test::norm(test::transpose(got.u) * mean);
    INFO("scale " << scale << ": " << 1 - left * left / best);
    CHECK(1 - left * left / best < 8e-3);
  }
}
