#include <loraga/init/kaiming.hpp>

#include "checks.hpp"

using test::host;

TEST_CASE("kaiming: A uniform within 1/sqrt(in), B zero, the seed decides", "[init]") {
  auto be = test::make_backend();
  auto const factors = [&](std::uint64_t seed) {
    loraga::lora<float, test::backend> ad(be, 50, 400, 8, loraga::classic_scaling{});
    loraga::initialise(be, ad, loraga::kaiming_init{.seed = seed});
    return std::pair{test::download(be, ad.a()), test::download(be, ad.b())};
  };
  auto const [a, b] = factors(1);
  CHECK(test::largest(b) == 0);
  CHECK(test::largest(a) <= 0.05);
  CHECK(test::largest(a) > 0.0499);
  double mean = 0, square = 0;
  for (double const x : a.data) mean += x / 3200, square += x * x / 3200;
  CHECK(std::abs(mean) < 0.002);
  CHECK(square == Approx(0.05 * 0.05 / 3).epsilon(0.05));
  CHECK(test::distance(factors(1).first, a) == 0);
  CHECK(test::distance(factors(2).first, a) > 0);
}

TEST_CASE("layers of a batch get different streams", "[init]") {
  auto be = test::make_backend();
  using adapter = loraga::lora<float, test::backend>;
  std::vector<adapter> ads;
  for (int i = 0; i < 2; ++i) ads.emplace_back(be, 10, 20, 4, loraga::classic_scaling{});
  using layer = loraga::layer<adapter>;
  layer const layers[] = {{&ads[0], {}}, {&ads[1], {}}};
  loraga::initialise(be, std::span<layer const>(layers), loraga::kaiming_init{3}, loraga::frozen_pair_anchor{});
  CHECK(test::distance(test::download(be, ads[0].a()), test::download(be, ads[1].a())) > 0.01);
}
