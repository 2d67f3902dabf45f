#include <loraga/svd/eigen.hpp>

#include "checks.hpp"
#include "judge.hpp"

static_assert(loraga::SvdMethod<loraga::eigen_svd, loraga::cpu>);

TEMPLATE_TEST_CASE("eigen_svd is exact", "[svd]", float, double) {
  double const tolerance = std::is_same_v<TestType, double> ? 1e-14 : 1e-6;
  test::check_method<TestType>(loraga::eigen_svd{}, 50, 20, 6, tolerance);
  test::check_method<TestType>(loraga::eigen_svd{}, 20, 50, 20, 2e-6);
  test::check_method<TestType>(loraga::eigen_svd{}, 1, 7, 1, 1e-6);
  test::check_hard_inputs<TestType>(loraga::eigen_svd{}, 40, 25, 6);
}
TEST_CASE("eigen_svd finds what the Gram matrix cannot tell from 0", "[svd]") {
  auto be = test::make_backend();
  std::vector<double> const sigma{1, 1e-5, 1e-9, 1e-12};
  auto a = test::upload<double>(be, test::with_spectrum(30, 40, sigma, 4));
  auto const t = test::download_triplets(be, test::factor(be, loraga::eigen_svd{}, a, 4));
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(t.s[i] - sigma[i]) < 1e-14);
  CHECK(test::orthonormality(t.u) < 1e-13);
  CHECK(test::orthonormality(t.v) < 1e-13);
}
TEMPLATE_TEST_CASE("eigen_svd of matrices on which Eigen 3.4.0's own reads out of bounds", "[svd]", float, double) {
  auto be = test::make_backend();
  auto const check = [&](test::host const& m, loraga::index_t k) {
    auto a = test::upload<TestType>(be, m);
    auto const r = test::factor(be, loraga::eigen_svd{}, a, k);
    CHECK(r.flags[0] == loraga::svd_usable);
    test::judgement j;
    auto const stored = test::download(be, a.view());
    CHECK(test::faults<TestType>(stored, test::jacobi_svd(stored).s, test::download_triplets(be, r), 1e-5,
                                 m.rows <= m.cols, j) == "");
  };
  check(test::host(90, 90, 0.007), 4);
  check(test::with_spectrum(60, 70, std::vector<double>(25, 1.0), 5), 59);
  check(test::identity(64), 64);
}
TEST_CASE("eigen_svd: batches and refusals", "[svd]") {
  test::check_batch(loraga::eigen_svd{}, 20, 30, 5);
  test::check_refusals(loraga::eigen_svd{});
}
