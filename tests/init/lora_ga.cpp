#include <loraga/init/lora_ga.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;
using test::transpose;

namespace {

struct ga_start {
  host a, b, w;
  double scale;
  host change() const { return scale * (b * a); }
};

template <class T = float>
ga_start start(test::fixture<T>& f, lora_ga_init init, double alpha = 16) {
  lora<T, test::backend> ad(f.be, f.out, f.in, f.rank, rank_stable_scaling{alpha});
  auto w = test::upload<T>(f.be, f.w);
  initialise(f.be, ad, init, w.view(), gram{}, f.gradient, in_place_anchor{});
  return {test::download(f.be, ad.a()), test::download(f.be, ad.b()), test::download(f.be, w.view()), ad.scale()};
}

double c_of(double out, double gamma) { return std::pow(out, 0.25) / std::sqrt(gamma); }

/// Which right (left) singular vectors of g span the rows of a (columns of b).
host span_of(host const& vectors, std::vector<index_t> const& which) {
  host s(vectors.rows, static_cast<index_t>(which.size()));
  for (index_t j = 0; j < s.cols; ++j)
    for (index_t i = 0; i < s.rows; ++i) s(i, j) = vectors(i, which[static_cast<std::size_t>(j)]);
  return s;
}

}  // namespace

TEST_CASE("each direction takes its triplets, for wide, tall and square layers", "[init]") {
  for (auto const& [out, in] : {std::pair{30, 20}, {20, 30}, {24, 24}}) {
    test::fixture<> f(out, in, 3);
    auto const t = test::jacobi_svd(f.g);
    auto const check = [&](ga_directions d, std::vector<index_t> const& for_a, std::vector<index_t> const& for_b) {
      auto const s = start(f, {.directions = d});
      double const c = c_of(out, 16);
      CHECK(test::subspace_distance(1 / c * transpose(s.a), span_of(t.v, for_a)) < 1e-4);
      CHECK(test::subspace_distance(1 / c * s.b, span_of(t.u, for_b)) < 1e-4);
      CHECK(test::distance(s.a * transpose(s.a), c * c * test::identity(3)) < 1e-5);
      CHECK(test::distance(transpose(s.b) * s.b, c * c * test::identity(3)) < 1e-5);
      CHECK(test::distance(s.w, f.w - s.change()) < 1e-5);
    };
    check(ga_directions::ArB2r, {0, 1, 2}, {3, 4, 5});
    check(ga_directions::A2rBr, {3, 4, 5}, {0, 1, 2});
    check(ga_directions::ArBr, {1, 3, 5}, {0, 2, 4});
  }
}

TEST_CASE("random directions are a disjoint split of the first 2r, decided by the seed", "[init]") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto const split = lora_ga_init{.directions = ga_directions::random, .seed = seed}.columns(5, 3);
    auto all = split.a;
    all.insert(all.end(), split.b.begin(), split.b.end());
    std::sort(all.begin(), all.end());
    for (index_t i = 0; i < 10; ++i) CHECK(all[static_cast<std::size_t>(i)] == i);
  }
  lora_ga_init const one{.directions = ga_directions::random, .seed = 1};
  CHECK(one.columns(8, 0).a != lora_ga_init{.directions = ga_directions::random, .seed = 2}.columns(8, 0).a);
  CHECK(one.columns(8, 0).a != one.columns(8, 1).a);
  test::fixture<> f(30, 20, 3);
  auto const t = test::jacobi_svd(f.g);
  auto const s = start(f, one);
  auto const split = one.columns(3, 0);
  CHECK(test::subspace_distance(1 / c_of(30, 16) * transpose(s.a), span_of(t.v, split.a)) < 1e-4);
  CHECK(test::subspace_distance(1 / c_of(30, 16) * s.b, span_of(t.u, split.b)) < 1e-4);
}

TEST_CASE("scales", "[init]") {
  test::fixture<> f(30, 20, 3);
  auto const t = test::jacobi_svd(f.g), weight = test::jacobi_svd(f.w);
  auto const factor = [&](host const& m, host const& unit) { return test::norm(m) / test::norm(unit); };
  auto const unit = start(f, {.scale = ga_scale::unit});
  CHECK(test::orthonormality(transpose(unit.a)) < 1e-5);
  CHECK(test::orthonormality(unit.b) < 1e-5);
  auto const stable = start(f, {.gamma = 64});
  CHECK(factor(stable.a, unit.a) == Approx(c_of(30, 64)).epsilon(1e-5));
  CHECK(factor(stable.b, unit.b) == Approx(c_of(30, 64)).epsilon(1e-5));  // out, not in, for both
  auto const gd = start(f, {.scale = ga_scale::gd}, 4);
  CHECK(factor(gd.a, unit.a) == Approx(std::sqrt(3) / 4).epsilon(1e-5));
  CHECK(factor(gd.b, unit.b) == Approx(std::sqrt(3) / 4).epsilon(1e-5));
  double mean = 0;
  for (std::size_t i = 0; i < 3; ++i) mean += std::sqrt(weight.s[i] / (4 / std::sqrt(3.0))) / 3;
  auto const by_weight = start(f, {.scale = ga_scale::weight_svd}, 4);
  CHECK(factor(by_weight.a, unit.a) == Approx(mean).epsilon(1e-4));
  CHECK(factor(by_weight.b, unit.b) == Approx(mean).epsilon(1e-4));
  // PEFT's own: A as it is, B by its sigmas
  auto const peft = start(f, {.scale = ga_scale::peft_stable});
  CHECK(test::distance(peft.a, unit.a) < 1e-6);
  host const sigma = test::diagonal(3, 3, {t.s[3], t.s[4], t.s[5]});
  CHECK(test::distance(peft.b, c_of(30, 16) * (unit.b * sigma)) < 1e-5);
  auto const peft_weight = start(f, {.scale = ga_scale::peft_weight_svd});
  CHECK(test::distance(peft_weight.b, weight.s[0] / t.s[3] * (unit.b * sigma)) < 1e-4);
}

TEST_CASE("clipping keeps the offset below the weight's largest entry", "[init]") {
  test::fixture<> f(30, 20, 3);
  auto const free = start(f, {.gamma = 0.01}), clipped = start(f, {.gamma = 0.01, .clip = true});
  double const rho = test::largest(f.w) / test::largest(free.change());
  REQUIRE(rho < 1);
  CHECK(test::largest(clipped.change()) == Approx(test::largest(f.w)).epsilon(1e-4));
  CHECK(test::distance(clipped.a, std::sqrt(rho) * free.a) < 1e-5);
  CHECK(test::distance(clipped.b, std::sqrt(rho) * free.b) < 1e-5);
  auto const small = start(f, {.gamma = 1000}), same = start(f, {.gamma = 1000, .clip = true});
  CHECK(test::distance(small.a, same.a) == 0);
}

TEST_CASE("a gradient of low rank still gives orthonormal factors", "[init]") {
  test::fixture<> f(30, 20, 4, {2, 1});  // rank 2, 8 triplets wanted
  auto const s = start(f, {});
  double const c = c_of(30, 16);
  CHECK(test::distance(s.a * transpose(s.a), c * c * test::identity(4)) < 1e-5);
  CHECK(test::distance(transpose(s.b) * s.b, c * c * test::identity(4)) < 1e-5);
}

TEST_CASE("settings and weights that lead to factors that are not finite are refused, and nothing changes", "[init]") {
  auto const refuse = [](test::fixture<>& f, lora_ga_init init, double alpha = 16) {
    host const before = test::download(f.be, f.weight.view());
    lora<float, test::backend> ad(f.be, 30, 20, 4, rank_stable_scaling{alpha});
    CHECK_THROWS_AS(initialise(f.be, ad, init, f.weight.view(), gram{}, f.gradient, in_place_anchor{}), numeric_error);
    CHECK(test::largest(test::download(f.be, ad.a())) == 0);
    CHECK(test::largest(test::download(f.be, ad.b())) == 0);
    CHECK(read_all(f.be, f.weight.view()) == read_all(f.be, test::upload<float>(f.be, before).view()));
  };
  test::fixture<> full(30, 20, 4), low(30, 20, 4, {2, 1, 0.5});
  refuse(full, {.gamma = 1e-80});
  refuse(full, {.gamma = 1e-80, .clip = true});
  refuse(full, {.scale = ga_scale::gd}, 1e-42);
  refuse(low, {.scale = ga_scale::peft_weight_svd});  // divides by a singular value of B's triplets, which is 0
  fill(full.be, full.weight.view(), 0);
  refuse(full, {.clip = true});  // nothing would be left, for good
  test::fixture<> bad(30, 20, 4);
  auto const cell = bad.weight.view().columns(3, 1).row_range(2, 1);
  fill(bad.be, cell, NAN);
  lora<float, test::backend> ad(bad.be, 30, 20, 4, rank_stable_scaling{});
  CHECK_THROWS_AS(
      initialise(bad.be, ad, lora_ga_init{.clip = true}, bad.weight.view(), gram{}, bad.gradient, in_place_anchor{}),
      numeric_error);
  CHECK(test::largest(test::download(bad.be, ad.a())) == 0);
  lora<fp16, test::backend> narrow(full.be, 30, 20, 4, rank_stable_scaling{});
  CHECK_THROWS_AS(
      initialise(full.be, narrow, lora_ga_init{.gamma = 1e-12}, gram{}, full.gradient, frozen_pair_anchor{}),
      numeric_error);
  CHECK(!narrow.paired());
}

TEST_CASE("bad settings are refused by name, before anything changes", "[init]") {
  test::fixture<> f(12, 8, 2);
  auto const refuse = [&]<class E>(E, index_t rank, lora_ga_init init, double alpha = 16) {
    lora<float, test::backend> ad(f.be, 12, 8, rank, rank_stable_scaling{alpha});
    CHECK_THROWS_AS(initialise(f.be, ad, init, f.weight.view(), gram{}, f.gradient, in_place_anchor{}), E);
    CHECK(test::largest(test::download(f.be, ad.a())) == 0);
    CHECK(test::distance(test::download(f.be, f.weight.view()),
                         test::download(f.be, test::upload<float>(f.be, f.w).view())) == 0);
  };
  refuse(shape_error(""), 5, {});  // 2r > min(out, in)
  refuse(value_error(""), 2, {.gamma = 0});
  refuse(value_error(""), 2, {.gamma = -16});
  refuse(value_error(""), 2, {.gamma = NAN});
  refuse(value_error(""), 2, {.scale = ga_scale::gd}, 0);
  lora<float, test::backend> ad(f.be, 12, 8, 2, rank_stable_scaling{});
  CHECK_THROWS_AS(initialise(f.be, ad, lora_ga_init{.clip = true}, gram{}, f.gradient, frozen_pair_anchor{}),
                  value_error);
  CHECK_THROWS_AS(
      initialise(f.be, ad, lora_ga_init{.scale = ga_scale::weight_svd}, gram{}, f.gradient, frozen_pair_anchor{}),
      value_error);
  CHECK_NOTHROW(initialise(f.be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{}));
}
