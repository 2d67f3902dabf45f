#include <loraga/diagnostics/spectrum.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("coverage is the captured share of energy", "[diagnostics]") {
  auto be = test::make_backend();
  auto g = test::upload<float>(be, test::with_spectrum(20, 10, {4, 2, 1, 0.5}, 1));
  auto r = test::factor(be, gram{}, g, 4);
  double const all = 16 + 4 + 1 + 0.25;
  CHECK(coverage(be, r, 0, 1) == Approx(16 / all).epsilon(1e-5));
  CHECK(coverage(be, r, 0, 2) == Approx(20 / all).epsilon(1e-5));
  CHECK(coverage(be, r, 0, 4) == Approx(1).epsilon(1e-5));
  CHECK(coverage(be, r, 0, 0) == 0);
  CHECK_THROWS_AS(coverage(be, r, 0, 5), shape_error);
  CHECK_THROWS_AS(coverage(be, r, 1, 1), shape_error);
  CHECK_THROWS_AS(coverage(be, r, -1, 1), shape_error);
  incremental_gradient<test::backend> estimate(be, 20, 10, {.rank = 1});
  estimate.add(be, g.view());
  CHECK_THROWS_AS(coverage(be, estimate.top(be, gram{}, 2), 0, 1), numeric_error);  // it never saw the whole energy
  r.energy[0] = 16 * 0.999;
  CHECK_THROWS_WITH(coverage(be, r, 0, 1), Catch::Contains("at most 1"));
  r.energy[0] = 0;
  CHECK_THROWS_AS(coverage(be, r, 0, 1), numeric_error);
  auto zero = test::upload<float>(be, test::host(5, 5));
  auto const z = test::factor(be, gram{}, zero, 2);
  CHECK_THROWS_AS(coverage(be, z, 0, 1), numeric_error);
}

TEST_CASE("effective rank counts used directions", "[diagnostics]") {
  CHECK(effective_rank(std::vector<double>{2, 2, 2, 2}) == Approx(4));
  CHECK(effective_rank(std::vector<double>{5, 0, 0}) == Approx(1));
  CHECK(effective_rank(std::vector<double>{3, 1}) ==
        Approx(std::exp(-(0.75 * std::log(0.75) + 0.25 * std::log(0.25)))));
  CHECK_THROWS_AS(effective_rank(std::vector<double>{0, 0}), numeric_error);
  CHECK_THROWS_AS(effective_rank(std::vector<double>{1, -1}), numeric_error);
  CHECK_THROWS_AS(effective_rank(std::vector<float>{1, NAN}), numeric_error);
  CHECK_THROWS_AS(effective_rank(std::vector<double>{INFINITY}), numeric_error);
}
