#include <loraga/init/embedding.hpp>

#include "checks.hpp"

TEST_CASE("embedding: A zero, B ~ N(0, 1)", "[init]") {
  auto be = test::make_backend();
  loraga::lora<float, test::backend> ad(be, 2000, 50, 8, loraga::classic_scaling{});
  test::upload_to<float>(be, test::random(8, 50, 1), ad.a());
  loraga::initialise(be, ad, loraga::embedding_init{.seed = 1});
  auto const b = test::download(be, ad.b());
  CHECK(test::largest(test::download(be, ad.a())) == 0);
  CHECK(test::norm(b) * test::norm(b) / 16000 == Approx(1).epsilon(0.03));
  CHECK(test::largest(b) > 3);
}
