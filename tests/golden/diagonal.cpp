// docs/mathematics.md, golden case 1: G = 6x5 with diagonal 8, 4, 2, 1, 1/2; gamma 16, r 2.
#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;

namespace {

struct result {
  host product, offset, a, b;
};

result diagonal_start(lora_ga_init init, auto scaling) {
  auto be = test::make_backend();
  auto g = test::upload<double>(be, test::diagonal(6, 5, {8, 4, 2, 1, 0.5}));
  dense_gradient<test::backend, double> gradient(be, 6, 5);
  gradient.add(be, g.view());
  auto w = test::upload<double>(be, host(6, 5));
  lora<double, test::backend> ad(be, 6, 5, 2, scaling);
  initialise(be, ad, init, w.view(), gram{}, gradient, in_place_anchor{});
  host const a = download(be, ad.a()), b = download(be, ad.b());
  return {b * a, download(be, w.view()), a, b};
}

/// Non-zero at the given places (1-based) only, with that magnitude.
void check_places(host const& m, std::vector<std::pair<int, int>> const& places, double magnitude) {
  for (index_t j = 0; j < m.cols; ++j)
    for (index_t i = 0; i < m.rows; ++i) {
      bool const here = std::find(places.begin(), places.end(),
                                  std::pair{static_cast<int>(i) + 1, static_cast<int>(j) + 1}) != places.end();
      INFO("(" << i + 1 << ", " << j + 1 << ")");
      CHECK(std::abs(m(i, j)) == Approx(here ? magnitude : 0).margin(1e-12));
    }
}

double const c = 0.39127114501832, c_squared = 0.15309310892395;

}  // namespace

TEST_CASE("golden: the stable scale c = m^(1/4)/sqrt(gamma)", "[golden]") {
  auto const r = diagonal_start({}, rank_stable_scaling{4});
  check_places(r.product, {{3, 1}, {4, 2}}, c_squared);
  CHECK(test::largest(r.a) == Approx(c).epsilon(1e-12));
  CHECK(test::largest(r.b) == Approx(c).epsilon(1e-12));
}

TEST_CASE("golden: offsets under both scalings", "[golden]") {
  check_places(diagonal_start({}, classic_scaling{4}).offset, {{3, 1}, {4, 2}}, 0.306186217848);
  check_places(diagonal_start({}, rank_stable_scaling{4}).offset, {{3, 1}, {4, 2}}, 0.433012701892);
}

TEST_CASE("golden: directions", "[golden]") {
  check_places(diagonal_start({.directions = ga_directions::A2rBr}, rank_stable_scaling{4}).product, {{1, 3}, {2, 4}},
               c_squared);
  check_places(diagonal_start({.directions = ga_directions::ArBr}, rank_stable_scaling{4}).product, {{1, 2}, {3, 4}},
               c_squared);
}

TEST_CASE("golden: scales gd, unit and PEFT's", "[golden]") {
  double const s = 4 / std::sqrt(2.0);
  check_places(diagonal_start({.scale = ga_scale::gd}, rank_stable_scaling{4}).offset, {{3, 1}, {4, 2}}, 1 / s);
  check_places(diagonal_start({.scale = ga_scale::unit}, rank_stable_scaling{4}).offset, {{3, 1}, {4, 2}}, s);
  auto const peft = diagonal_start({.scale = ga_scale::peft_stable}, rank_stable_scaling{4});
  CHECK(std::abs(peft.b(2, 0)) == Approx(2 * c).epsilon(1e-12));
  CHECK(std::abs(peft.b(3, 1)) == Approx(c).epsilon(1e-12));
  CHECK(test::largest(peft.a) == Approx(1));
}

TEST_CASE("golden: coverage", "[golden]") {
  auto be = test::make_backend();
  auto g = test::upload<double>(be, test::diagonal(6, 5, {8, 4, 2, 1, 0.5}));
  auto const r = test::factor(be, gram{}, g, 5);
  CHECK(coverage(be, r, 0, 4) == Approx(0.99706744868).epsilon(1e-10));
  CHECK(coverage(be, r, 0, 2) == Approx(0.93841642229).epsilon(1e-10));
}

TEST_CASE("golden: norms of the factors do not depend on the gradient's size; those of PEFT do", "[golden]") {
  // both factors have norm c*sqrt(r) whatever the gradient's size; PEFT's own B is smaller by the gradient's sigmas
  double const side = 2048;
  CHECK(std::pow(side, 0.25) / std::sqrt(16.0) * std::sqrt(8.0) == Approx(4.757).epsilon(1e-3));
  test::fixture<> f(48, 48, 8);
  lora<float, test::backend> ad(f.be, 48, 48, 8, rank_stable_scaling{});
  initialise(f.be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  double const expected = std::pow(48.0, 0.25) / 4 * std::sqrt(8.0);
  CHECK(test::norm(download(f.be, ad.a())) == Approx(expected).epsilon(1e-5));
  CHECK(test::norm(download(f.be, ad.b())) == Approx(expected).epsilon(1e-5));
}
