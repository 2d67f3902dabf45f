#include <cmath>
#include <loraga/rank_allocation.hpp>

#include "support/catch.hpp"

using namespace loraga;
using Catch::Contains;

namespace {

layer_spectrum geometric_layer(index_t out, index_t in, double first, double ratio, index_t values = 16) {
  layer_spectrum l{out, in, {}};
  for (index_t i = 0; i < values; ++i) l.sigma.push_back(first * std::pow(ratio, static_cast<double>(i)));
  return l;
}
double covered(layer_spectrum const& l, index_t rank, index_t t) {
  double sum = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(t * rank); ++i) sum += l.sigma[i] * l.sigma[i] / l.energy;
  return sum;
}
double covered(std::vector<layer_spectrum> const& layers, std::vector<index_t> const& ranks, index_t t) {
  double sum = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) sum += covered(layers[l], ranks[l], t);
  return sum;
}
index_t spent(std::vector<layer_spectrum> const& layers, std::vector<index_t> const& ranks) {
  index_t sum = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) sum += ranks[l] * (layers[l].out + layers[l].in);
  return sum;
}
/// The most that any ranks cover, by trying all.
double best_of_all(std::vector<layer_spectrum> const& layers, rank_budget const& b, index_t parameters,
                   std::vector<index_t> ranks = {}) {
  if (ranks.size() == layers.size())
    return spent(layers, ranks) <= parameters ? covered(layers, ranks, b.triplets_per_rank) : -1;
  double best = -1;
  ranks.push_back(0);
  auto const& l = layers[ranks.size() - 1];
  for (index_t r = b.least; r <= std::min(b.most, std::min(l.out, l.in) / b.triplets_per_rank); ++r) {
    ranks.back() = r;
    best = std::max(best, best_of_all(layers, b, parameters, ranks));
  }
  return best;
}

}  // namespace

TEST_CASE("no ranks cover more with the parameters spent, for 2r and for r triplets", "[ranks]") {
  std::vector<layer_spectrum> const layers{geometric_layer(8, 8, 1, 0.9), geometric_layer(16, 8, 2, 0.6),
                                           geometric_layer(8, 24, 1.2, 0.8), geometric_layer(8, 8, 1, 0.9)};
  int in_order = 0;
  for (index_t const t : {1, 2})
    for (index_t parameters = 88; parameters < 520; parameters += 8) {
      rank_budget const b{parameters, 1, 4, t};
      auto const ranks = allocate_ranks(layers, b);
      index_t const used = spent(layers, ranks);
      REQUIRE(used <= parameters);
      for (index_t const r : ranks) REQUIRE((r >= 1 && r <= 4));
      double const got = covered(layers, ranks, t);
      auto const gain = [&](std::size_t l, index_t r) {
        return covered(layers[l], r, t) - covered(layers[l], r - 1, t);
      };
      auto const cost = [&](std::size_t l) { return layers[l].out + layers[l].in; };
      double lowest_given = 1e9, largest_gain = 0;
      for (std::size_t l = 0; l < 4; ++l)
        if (ranks[l] > 1) lowest_given = std::min(lowest_given, gain(l, ranks[l]) / static_cast<double>(cost(l)));
      bool passed_over = false;
      for (std::size_t l = 0; l < 4; ++l) {
        if (ranks[l] == 4) continue;
        double const next = gain(l, ranks[l] + 1);
        largest_gain = std::max(largest_gain, next);
        if (next / static_cast<double>(cost(l)) <= lowest_given) continue;
        passed_over = true;
        REQUIRE(cost(l) > parameters - used);  // worth more than something given, but it does not fit
      }
      REQUIRE(got > best_of_all(layers, b, parameters) - largest_gain - 1e-12);
      if (!passed_over) REQUIRE(got == Approx(best_of_all(layers, b, used)).epsilon(1e-12));
      in_order += !passed_over;
      REQUIRE(allocate_ranks(layers, b) == ranks);
    }
  CHECK(in_order > 20);
}

TEST_CASE("gain per parameter decides, not gain", "[ranks]") {
  std::vector<layer_spectrum> const layers{{8, 8, {1, 0.9, 0.9, 0.9}}, {8, 40, {1, 1}}};
  CHECK(allocate_ranks(layers, {16 + 48 + 48, 1, 8, 1}) == std::vector<index_t>{4, 1});
}

TEST_CASE("equal layers get equal ranks, the earlier one what is left; energy makes layers alike", "[ranks]") {
  std::vector<layer_spectrum> layers(3, geometric_layer(32, 32, 1, 0.8));
  CHECK(parameters_at(layers, 4) == 3 * 4 * 64);
  CHECK(allocate_ranks(layers, {parameters_at(layers, 4)}) == std::vector<index_t>{4, 4, 4});
  CHECK(allocate_ranks(layers, {parameters_at(layers, 4) + 70}) == std::vector<index_t>{5, 4, 4});
  CHECK(allocate_ranks(layers, {1 << 20}) == std::vector<index_t>{8, 8, 8});  // 16 values were measured
  CHECK(allocate_ranks(layers, {1 << 20, 1, 5}) == std::vector<index_t>{5, 5, 5});
  for (double& s : layers[1].sigma) s *= 100;
  CHECK(allocate_ranks(layers, {parameters_at(layers, 3)}) == std::vector<index_t>{1, 7, 1});
  layers[1].energy = 1e4;  // coverage counts, not size
  CHECK(allocate_ranks(layers, {parameters_at(layers, 3)}) == std::vector<index_t>{3, 3, 3});
  layers[0].out = 320;  // a rank there costs more
  CHECK(allocate_ranks(layers, {352 + 128 + 64 * 4})[0] == 1);
  layers[2].sigma.assign(16, 0);
  CHECK(allocate_ranks(layers, {1 << 20})[2] == 1);  // nothing to gain
  CHECK(allocate_ranks({}, {0}).empty());
}

TEST_CASE("impossible budgets and bad spectra are refused by name", "[ranks]") {
  std::vector<layer_spectrum> layers{geometric_layer(8, 8, 1, 0.8), geometric_layer(6, 20, 1, 0.8)};
  layers[1].name = "query";
  CHECK_THROWS_WITH(allocate_ranks(layers, {41}), Contains("parameters is 41") && Contains("42"));
  CHECK_THROWS_WITH(allocate_ranks(layers, {1 << 20, 4}), Contains("query") && Contains("at most 3"));
  CHECK_NOTHROW(allocate_ranks(layers, {1 << 20, 4, 8, 1}));
  CHECK_THROWS_AS(allocate_ranks(layers, {100, 0}), value_error);
  CHECK_THROWS_AS(allocate_ranks(layers, {100, 2, 1}), value_error);
  CHECK_THROWS_AS(allocate_ranks(layers, {100, 1, 2, 3}), value_error);
  auto const refused = [&](auto change, char const* what) {
    auto bad = layers;
    change(bad[1]);
    CHECK_THROWS_WITH(allocate_ranks(bad, {100}), Contains("query") && Contains(what));
  };
  refused([](auto& l) { l.sigma[2] = NAN; }, "sigma 2");
  refused([](auto& l) { l.sigma[2] = 2; }, "descending");
  refused([](auto& l) { l.sigma.back() = -1; }, "sigma 15");
  refused([](auto& l) { l.energy = 0; }, "energy");
  refused([](auto& l) { l.sigma.resize(1); }, "at most 0");
  refused([](auto& l) { l.out = 0; }, "0x20");
}

TEST_CASE("EVA's redistribution takes the largest shares of all, at most rho times the rank of a layer", "[ranks]") {
  std::vector<std::vector<double>> const explained{
      {0.30, 0.20, 0.10, 0.05, 0.04, 0.03}, {0.90, 0.02, 0.01, 0.001, 0, 0}, {0.25, 0.25, 0.15, 0.15, 0.15, 0.05}};
  // 6 largest of the first 4: .90 .30 .25 .25 .20 and one .15
  CHECK(redistribute_ranks(explained, 2) == std::vector<index_t>{2, 1, 3});
  CHECK(redistribute_ranks(explained, 2, 1) == std::vector<index_t>{2, 2, 2});
  CHECK(redistribute_ranks(explained, 3, 1.5) == std::vector<index_t>{3, 1, 5});
  std::vector<std::vector<double>> const one_wins{{0.9, 0.8, 0.7, 0.6, 0.5}, {0.1}, {0.1, 0.05}};
  CHECK(redistribute_ranks(one_wins, 1) == std::vector<index_t>{2, 1, 0});  // a tie: the earlier layer
  std::vector<std::vector<double>> const tied{{0.5, 0.1}, {0.1}};
  CHECK(redistribute_ranks(tied, 1) == std::vector<index_t>{1, 1});  // and before that the earlier direction
  CHECK(redistribute_ranks({}, 4).empty());
  CHECK_THROWS_AS(redistribute_ranks(explained, 0), value_error);
  CHECK_THROWS_AS(redistribute_ranks(explained, 2, 0.5), value_error);
  std::vector<std::vector<double>> const bad{{0.5}, {0.1, 0.2}};
  CHECK_THROWS_WITH(redistribute_ranks(bad, 1), Contains("layer 1"));
}

TEST_CASE("ranks_by_importance shares a common rank's cost by importance", "[rank_allocation]") {
  std::vector<layer_importance> const even{{64, 36, 3}, {64, 36, 1}, {64, 36, 0.6}};  // of 24: 15.65, 5.22, 3.13
  CHECK(ranks_by_importance(even, 8, 1, 64) == std::vector<index_t>{16, 5, 3});
  CHECK(ranks_by_importance(even, 8, 4, 12) == std::vector<index_t>{12, 5, 4});
  CHECK(ranks_by_importance({}, 8, 1, 8).empty());
  // roots 10 and 20: a budget of 8*30, 120 for each
  std::vector<layer_importance> const unequal{{64, 36, 7e-9}, {200, 200, 7e-9}};
  CHECK(ranks_by_importance(unequal, 8, 1, 64) == std::vector<index_t>{12, 6});
  std::vector<layer_importance> const narrow{{64, 10, 1e6}, {64, 10, 0}};
  CHECK(ranks_by_importance(narrow, 8, 2, 64) == std::vector<index_t>{10, 2});
}

TEST_CASE("ranks_by_importance names what it refuses", "[rank_allocation]") {
  std::vector<layer_importance> layers{{64, 36, 3}, {64, 36, 1, "q"}};
  CHECK_THROWS_AS(ranks_by_importance(layers, 0, 1, 4), value_error);
  CHECK_THROWS_AS(ranks_by_importance(layers, 8, 0, 4), value_error);
  CHECK_THROWS_AS(ranks_by_importance(layers, 8, 5, 4), value_error);
  CHECK_THROWS_AS(ranks_by_importance(layers, 8, 37, 64), shape_error);
  for (double const bad : {NAN, INFINITY, -1.0F}) {
    layers[1].importance = bad;
    CHECK_THROWS_WITH(ranks_by_importance(layers, 8, 1, 4), Contains("(q)"));
  }
  layers[0].importance = layers[1].importance = 0;
  CHECK_THROWS_AS(ranks_by_importance(layers, 8, 1, 4), value_error);
}
