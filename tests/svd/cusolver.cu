#include <loraga/svd/cusolver.cuh>

#include "checks.hpp"

using namespace loraga;

namespace {

void check_exact(cusolver_driver driver) {
  cusolver_svd const svd{.driver = driver};
  for (auto const& [rows, cols] : std::vector<std::pair<index_t, index_t>>{{40, 30}, {30, 40}, {24, 24}}) {
    test::check_method<float>(svd, rows, cols, 6, 1e-5);
    test::check_method<double>(svd, rows, cols, 6, 1e-10);
  }
  test::check_refusals(svd);
}

}  // namespace

TEST_CASE("cuSOLVER's exact drivers", "[cuda][svd]") {
  for (auto const driver : {cusolver_driver::gesvd, cusolver_driver::gesvdj, cusolver_driver::gesvdp}) {
    INFO("driver " << static_cast<int>(driver));
    check_exact(driver);
    test::check_batch(cusolver_svd{.driver = driver}, 20, 14, 4);
  }
}

TEST_CASE("cuSOLVER's batched driver", "[cuda][svd]") {
  cusolver_svd const svd{.driver = cusolver_driver::gesvda};
  test::check_method<float>(svd, 40, 20, 5, 1e-4);
  test::check_method<float>(svd, 20, 40, 5, 1e-4);
  test::check_method<double>(svd, 40, 20, 5, 1e-8);
  test::check_batch(svd, 30, 14, 4);
  test::check_refusals(svd);
}

TEST_CASE("cuSOLVER's randomised driver", "[cuda][svd]") {
  cusolver_svd const svd{.driver = cusolver_driver::gesvdr, .oversampling = 14, .iterations = 8};
  test::check_method<float>(svd, 60, 40, 5, 1e-3);
  test::check_method<float>(svd, 40, 60, 5, 1e-3);
  test::check_batch(cusolver_svd{.driver = cusolver_driver::gesvdr, .iterations = 8}, 30, 24, 4, false);
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::random(9, 8, 1));
  CHECK_THROWS_WITH(test::factor(be, svd, a, 7), Catch::Contains("at most 6 for gesvdr"));
  CHECK_NOTHROW(test::factor(be, svd, a, 6));
  CHECK_THROWS_AS(test::factor(be, cusolver_svd{.iterations = -1}, a, 2), value_error);
  CHECK_THROWS_AS(test::factor(be, cusolver_svd{.oversampling = -1}, a, 2), value_error);
}

TEST_CASE("16-bit matrices are factored in float, in layouts of any kind", "[cuda][svd]") {
  auto be = test::make_backend();
  test::host const a = test::with_spectrum(20, 12, test::stepped(12, 3), 3);
  auto const d = test::upload<bf16>(be, test::transpose(a));
  const_view<bf16, device_space> const rows = d.view().transposed();
  auto const r = cusolver_svd{}.top(be, view_list(&rows, 1), 3);
  test::check_triplets<float>(test::download(be, rows), test::download_triplets(be, r), 3, 1e-5);
}
