#include <loraga/svd/gram.hpp>

#include "checks.hpp"

TEMPLATE_TEST_CASE("gram is exact on either side", "[svd]", float, double) {
  double const tolerance = std::is_same_v<TestType, double> ? 1e-14 : 1e-10;
  test::check_method<TestType>(loraga::gram{}, 50, 20, 6, std::is_same_v<TestType, double> ? 1e-14 : 1e-6);
  test::check_method<TestType>(loraga::gram{}, 20, 50, 20, tolerance * 1e4);
  test::check_method<TestType>(loraga::gram{}, 30, 30, 1, tolerance * 1e4);
  test::check_method<TestType>(loraga::gram{}, 40, 1, 1, tolerance * 1e4);
  test::check_method<TestType>(loraga::gram{}, 1, 1, 1, tolerance * 1e4);
}
TEST_CASE("gram: hard inputs, batches, refusals", "[svd]") {
  test::check_hard_inputs<float>(loraga::gram{}, 40, 25, 6, true);
  test::check_hard_inputs<double>(loraga::gram{}, 25, 40, 6, true);
  test::check_batch(loraga::gram{}, 30, 40, 5);
  test::check_refusals(loraga::gram{});
}
TEST_CASE("16-bit matrices are factored in float", "[svd]") {
  auto be = test::make_backend();
  test::host const a = test::with_spectrum(30, 20, test::stepped(20, 4), 3);
  auto d = test::upload<loraga::bf16>(be, a);
  auto const t = test::download_triplets(be, test::factor(be, loraga::gram{}, d, 4));
  test::check_triplets<float>(test::download(be, d.view()), t, 4, 1e-6);
}
