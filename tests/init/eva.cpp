#include <loraga/init/eva.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

/// Inputs around a mean, whose directions and variances are known: columns of `axes`, deviations 0.7^i.
struct inputs_of {
  host axes;
  explicit inputs_of(index_t in, std::uint64_t seed = 7) : axes(test::orthonormal(in, in, seed)) {}
  host sample(index_t tokens, std::uint64_t seed) const {
    index_t const in = axes.rows;
    host const mean = test::generate(in, tokens, [](index_t, index_t) { return 2.0; });
    return axes * (test::diagonal(in, in, test::geometric(in, 0.7)) * test::random(in, tokens, seed)) + mean;
  }
};
using statistics = input_statistics<test::backend>;

/// Principal directions of columns, the naive way.
test::triplets naive_pca(host const& x) {
  host const mean = 1 / static_cast<double>(x.cols) * (x * host(x.cols, 1, 1.0));
  return test::jacobi_svd(x - mean * host(1, x.cols, 1.0));
}

}  // namespace

TEST_CASE("EVA: A is the inputs' principal directions, B zero; the model starts unchanged", "[init]") {
  auto be = test::make_backend();
  host const x = inputs_of(20).sample(80, 1);
  statistics s(be, 20);
  s.add(be, test::upload<float>(be, test::columns(x, 0, 50)).view());
  s.add(be, test::upload<float>(be, test::columns(x, 50, 30)).view());
  lora<float, test::backend> ad(be, 30, 20, 4, classic_scaling{});
  statistics peaked(be, 20, {.by_peak = true});  // CorDA's
  peaked.add(be, test::upload<float>(be, x).view());
  CHECK_THROWS_AS(initialise(be, ad, eva_init{}, gram{}, peaked), state_error);
  initialise(be, ad, eva_init{}, gram{}, s);
  host const a = test::download(be, ad.a());
  CHECK(test::orthonormality(test::transpose(a)) < 1e-5);
  host const want = test::columns(naive_pca(x).v.rows == 20 ? naive_pca(x).v : naive_pca(x).u, 0, 4);
  for (index_t i = 0; i < 4; ++i)  // one by one: they come in order
    CHECK(std::abs(test::inner(test::transpose(test::rows(a, i, 1)), test::columns(want, i, 1))) ==
          Approx(1).epsilon(1e-4));
  CHECK(test::largest(test::download(be, ad.b())) == 0);
  CHECK(test::change_at_start(30, 20, 4, [&](auto& other, auto& start, auto) {
          statistics own(other, 20);
          own.add(other, test::upload<float>(other, x).view());
          initialise(other, start, eva_init{}, gram{}, own);
        }) == 0);
}

TEST_CASE("EVA: a batch, with layers whose inputs cannot be used", "[init]") {
  auto be = test::make_backend();
  using adapter = lora<bf16, test::backend>;
  using layer_of = layer<adapter, no_weight, statistics>;
  std::vector<adapter> ads;
  std::vector<statistics> seen;
  for (int i = 0; i < 4; ++i) {
    ads.emplace_back(be, 10 + 5 * (i % 2), 12, 3, classic_scaling{});
    seen.emplace_back(be, 12);
    seen.back().add(be, test::upload<float>(be, inputs_of(12, 3).sample(40, static_cast<std::uint64_t>(i))).view());
  }
  seen[1].add(be, test::upload<float>(be, host(12, 3, NAN)).view());
  seen[2].reset(be);
  seen[2].add(be, test::upload<float>(be, host(12, 9, 1.5)).view());
  std::vector<layer_of> layers;
  for (std::size_t i = 0; i < 4; ++i) layers.push_back({&ads[i], {}, &seen[i], "layer" + std::to_string(i)});
  auto const run = [&] {
    initialise(be, std::span<layer_of const>(layers), eva_init{}, automatic_svd{}, frozen_pair_anchor{});
  };
  CHECK_THROWS_WITH(run(), Catch::Contains("layer1 is not finite") && Catch::Contains("layer2 is zero"));
  for (std::size_t const i : {1u, 2u}) CHECK(test::largest(test::download(be, ads[i].a())) == 0);
  for (std::size_t const i : {0u, 3u})
    CHECK(test::orthonormality(test::transpose(test::download(be, ads[i].a()))) < 2e-2);  // rounded to bf16
  layers[3].source = nullptr;
  CHECK_THROWS_WITH(run(), Catch::Contains("layer3): inputs is null"));
  statistics empty(be, 12), narrow(be, 11);
  layers[3].source = &empty;
  CHECK_THROWS_AS(run(), state_error);
  layers[3].source = &narrow;
  CHECK_THROWS_AS(run(), shape_error);
  adapter wide(be, 20, 12, 13, classic_scaling{});
  CHECK_THROWS_AS(initialise(be, wide, eva_init{}, gram{}, seen[0]), shape_error);
}

TEST_CASE("EVA: fewer tokens than ranks still give orthonormal rows, the first of them the inputs'", "[init]") {
  auto be = test::make_backend();
  host const x = inputs_of(20).sample(3, 1);  // two directions around their mean
  statistics s(be, 20);
  s.add(be, test::upload<float>(be, x).view());
  lora<float, test::backend> ad(be, 30, 20, 4, classic_scaling{});
  initialise(be, ad, eva_init{}, gram{}, s);
  host const a = test::download(be, ad.a());
  CHECK(test::orthonormality(test::transpose(a)) < 1e-5);
  auto const pca = naive_pca(x);
  CHECK(test::subspace_distance(test::transpose(test::rows(a, 0, 2)), test::columns(pca.u, 0, 2)) < 1e-3);
}

TEST_CASE("EVA's convergence: directions settle one after the other, from the first on", "[init]") {
  auto be = test::make_backend();
  inputs_of const source(16);
  statistics s(be, 16);
  eva_convergence<test::backend> progress;
  index_t settled = 0, looks = 0;
  host before;
  for (; settled < 6 && looks < 60; ++looks) {
    s.add(be, test::upload<float>(be, source.sample(40, static_cast<std::uint64_t>(looks))).view());
    settled = progress.look(be, gram{}, s, 6);
    host const now = test::download(be, s.top(be, gram{}, 6)[0].v);
    index_t want = 0;
    if (looks > 0)
      while (want < 6 && std::abs(test::inner(test::columns(now, want, 1), test::columns(before, want, 1))) >= 0.99)
        ++want;
    CHECK(settled == want);
    before = now;
  }
  CHECK(settled == 6);
  CHECK(looks > 2);
  double rest = 1;
  for (int i = 0; i < 6; ++i) rest -= progress.explained()[static_cast<std::size_t>(i)];
  CHECK(rest == Approx(std::pow(0.49, 6)).epsilon(0.2));  // variances 0.49^i, of 16
  CHECK_THROWS_AS(progress.look(be, gram{}, s, 5), shape_error);
  statistics constant(be, 16);
  constant.add(be, test::upload<float>(be, host(16, 4, 1.0)).view());
  CHECK_THROWS_AS(progress.look(be, gram{}, constant, 6), numeric_error);
}
