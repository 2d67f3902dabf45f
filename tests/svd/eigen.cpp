#include <loraga/svd/eigen.hpp>

#include "checks.hpp"

static_assert(loraga::SvdMethod<loraga::eigen_svd, loraga::cpu>);

TEMPLATE_TEST_CASE("eigen_svd is exact", "[svd]", float, double) {
  double const tolerance = std::is_same_v<TestType, double> ? 1e-14 : 1e-6;
  test::check_method<TestType>(loraga::eigen_svd{}, 50, 20, 6, tolerance);
  test::check_method<TestType>(loraga::eigen_svd{}, 20, 50, 20, 2e-6);
  test::check_method<TestType>(loraga::eigen_svd{}, 1, 7, 1, 1e-6);
  test::check_hard_inputs<TestType>(loraga::eigen_svd{}, 40, 25, 6);
}
TEST_CASE("eigen_svd: batches and refusals", "[svd]") {
  test::check_batch(loraga::eigen_svd{}, 20, 30, 5);
  test::check_refusals(loraga::eigen_svd{});
}
