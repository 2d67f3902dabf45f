#include <loraga/svd/subspace.hpp>

#include "checks.hpp"

TEMPLATE_TEST_CASE("subspace iteration finds the leading subspace", "[svd]", float, double) {
  loraga::subspace const svd{.width = 16, .iterations = 6, .seed = 3};
  test::check_method<TestType>(svd, 120, 90, 6, 1e-6);
  test::check_method<TestType>(svd, 90, 120, 6, 1e-6);
  test::check_method<TestType>(svd, 100, 100, 1, 1e-6);
}
TEST_CASE("subspace: hard inputs, batches, refusals", "[svd]") {
  loraga::subspace const svd{.width = 24, .iterations = 6};
  test::check_hard_inputs<float>(svd, 90, 70, 6);
  test::check_hard_inputs<double>(svd, 70, 90, 6);
  test::check_batch(svd, 60, 80, 5);
  test::check_refusals(loraga::subspace{});
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::random(30, 30, 1));
  CHECK_THROWS_AS(test::factor(be, loraga::subspace{.width = 3}, a, 4), loraga::shape_error);
  CHECK_THROWS_AS(test::factor(be, loraga::subspace{.iterations = -1}, a, 4), loraga::value_error);
}
TEST_CASE("more iterations lose less, the seed decides the bits", "[svd]") {
  auto be = test::make_backend();
  std::vector<double> sigma;
  for (int i = 1; i <= 100; ++i) sigma.push_back(1 / std::sqrt(i));
  auto a = test::upload<float>(be, test::with_spectrum(150, 100, sigma, 2));
  auto const captured = [&](loraga::subspace svd) {
    double sum = 0;
    for (double const s : test::download_triplets(be, test::factor(be, svd, a, 8)).s) sum += s * s;
    return sum;
  };
  double before = 0;
  for (int const iterations : {0, 1, 2, 4}) {
    double const now = captured({.width = 16, .iterations = iterations});
    CHECK(now > before);
    before = now;
  }
  auto const bits = [&](std::uint64_t seed) {
    return loraga::read_all(be,
                            test::factor(be, loraga::subspace{.width = 16, .iterations = 1, .seed = seed}, a, 8)[0].u);
  };
  CHECK(bits(1) == bits(1));
  CHECK(bits(1) != bits(2));
}
TEST_CASE("a width as large as the small side is exact", "[svd]") {
  test::check_method<float>(loraga::subspace{.width = 20, .iterations = 0}, 60, 20, 5, 1e-6);
}
