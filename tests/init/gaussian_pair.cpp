#include <loraga/init/gaussian_pair.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

std::pair<host, host> start(gaussian_pair_init init, index_t out = 400, index_t in = 900) {
  auto be = test::make_backend();
  lora<float, test::backend> ad(be, out, in, 8, classic_scaling{});
  initialise(be, ad, init, frozen_pair_anchor{});
  return {test::download(be, ad.a()), test::download(be, ad.b())};
}
double variance(host const& m) { return test::norm(m) * test::norm(m) / static_cast<double>(m.data.size()); }

}  // namespace

TEST_CASE("gaussian pair: variances 1/in and 1/out; the stable scale multiplies both; the seed decides", "[init]") {
  auto const [a, b] = start({.seed = 1});
  CHECK(variance(a) == Approx(1.0 / 900).epsilon(0.06));
  CHECK(variance(b) == Approx(1.0 / 400).epsilon(0.06));
  CHECK(std::abs(test::inner(a, host(8, 900, 1.0))) < 4 * std::sqrt(8.0));  // mean 0
  CHECK(test::largest(a) > 3.0 / 30);
  double const c = std::pow(400.0, 0.25) / std::sqrt(64.0);
  auto const scaled = start({.stable = true, .gamma = 64, .seed = 1});
  CHECK(test::distance(scaled.first, c * a) < 1e-6);
  CHECK(test::distance(scaled.second, c * b) < 1e-6);
  auto const again = start({.seed = 1}), other = start({.seed = 2}), square = start({.seed = 1}, 40, 40);
  CHECK(test::distance(again.first, a) == 0);
  CHECK(test::distance(again.second, b) == 0);
  CHECK(test::distance(other.first, a) > 0.01);
  CHECK(test::distance(other.second, b) > 0.01);
  CHECK(std::abs(test::inner(square.first, square.second)) < 4 / std::sqrt(5.0));  // A and B are independent
}

TEST_CASE("gaussian pair: layers of a batch get different streams", "[init]") {
  auto be = test::make_backend();
  using adapter = lora<float, test::backend>;
  std::vector<adapter> ads;
  for (int i = 0; i < 2; ++i) ads.emplace_back(be, 10, 20, 4, classic_scaling{});
  using layer = layer<adapter>;
  layer const layers[] = {{&ads[0], {}}, {&ads[1], {}}};
  initialise(be, std::span<layer const>(layers), gaussian_pair_init{}, frozen_pair_anchor{});
  CHECK(test::distance(test::download(be, ads[0].a()), test::download(be, ads[1].a())) > 0.01);
  CHECK(test::distance(test::download(be, ads[0].b()), test::download(be, ads[1].b())) > 0.01);
}

TEST_CASE("gaussian pair: an anchored start changes nothing; without an anchor it does", "[init]") {
  test::check_anchored_start(30, 20, 4, gaussian_pair_init{.stable = true});
  CHECK(test::change_at_start(30, 20, 4, [](auto& be, auto& ad, auto w) {
          initialise(be, ad, gaussian_pair_init{}, w, unanchored{});
        }) > 0.1);
  auto be = test::make_backend();
  lora<float, test::backend> ad(be, 10, 20, 4, classic_scaling{});
  using layer = layer<lora<float, test::backend>>;
  layer const one[] = {{&ad, {}}};
  CHECK_THROWS_AS(initialise(be, ad, gaussian_pair_init{.gamma = 0}, frozen_pair_anchor{}), value_error);
  CHECK(test::largest(test::download(be, ad.a())) == 0);
  CHECK_THROWS_AS((check_layers(std::span<layer const>(one), gaussian_pair_init{}, in_place_anchor{})), value_error);
}
