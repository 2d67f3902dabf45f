#include <loraga/svd/block_krylov.hpp>

#include "checks.hpp"

TEMPLATE_TEST_CASE("block Krylov finds the leading subspace, for any block", "[svd]", float, double) {
  test::check_method<TestType>(loraga::block_krylov{.block = 16, .depth = 5, .seed = 3}, 150, 120, 6, 1e-6);
  test::check_method<TestType>(loraga::block_krylov{.block = 4, .depth = 12, .seed = 3}, 120, 150, 6, 1e-6);
  test::check_method<TestType>(loraga::block_krylov{.block = 1, .depth = 30, .seed = 3}, 120, 120, 3, 1e-6);
  test::check_method<TestType>(loraga::block_krylov{.depth = 6, .seed = 3}, 100, 100, 8, 1e-6);
}
TEST_CASE("block Krylov: hard inputs, batches, refusals", "[svd]") {
  loraga::block_krylov const svd{.block = 8, .depth = 6};
  test::check_hard_inputs<float>(svd, 90, 70, 6);
  test::check_hard_inputs<double>(svd, 70, 90, 6);
  test::check_batch(svd, 60, 80, 5);
  test::check_refusals(loraga::block_krylov{.block = 2, .depth = 3});
  auto be = test::make_backend();
  auto a = test::upload<float>(be, test::random(30, 30, 1));
  CHECK_THROWS_AS(test::factor(be, loraga::block_krylov{.block = 2, .depth = 1}, a, 4), loraga::shape_error);
  CHECK_THROWS_AS(test::factor(be, loraga::block_krylov{.depth = 0}, a, 4), loraga::value_error);
  CHECK_THROWS_AS(test::factor(be, loraga::block_krylov{.block = -1}, a, 4), loraga::value_error);
}
TEST_CASE("an invariant subspace does not stop the iteration", "[svd]") {
  // rank 3: the second step has nothing left to find and is completed by random columns
  auto be = test::make_backend();
  test::host const a = test::with_spectrum(80, 60, {3, 2, 1}, 2);
  auto d = test::upload<float>(be, a);
  auto const t = test::download_triplets(be, test::factor(be, loraga::block_krylov{.block = 4, .depth = 5}, d, 8));
  CHECK(test::orthonormality(t.u) < 1e-5);
  // A GPU's passes round operands to TF32: 3e-5 of the norm, 1e-9 of the energy.
  double const most = test::batches_keep_bits ? 1e-4 : 3e-4;
  CHECK(test::norm(a - t.u * test::diagonal(8, 8, t.s) * test::transpose(t.v)) < most);
}
TEST_CASE("fewer products than subspace iteration for the same energy", "[svd]") {
  auto be = test::make_backend();
  std::vector<double> sigma;
  for (int i = 1; i <= 120; ++i) sigma.push_back(1 / std::sqrt(i));
  auto a = test::upload<float>(be, test::with_spectrum(200, 120, sigma, 2));
  auto const captured = [&](auto svd) {
    double sum = 0;
    for (double const s : test::download_triplets(be, test::factor(be, svd, a, 8)).s) sum += s * s;
    return sum;
  };
  // 8 passes of 8 columns against 8 passes of 8 columns
  CHECK(captured(loraga::block_krylov{.block = 8, .depth = 4}) >
        captured(loraga::subspace{.width = 8, .iterations = 3}));
}
