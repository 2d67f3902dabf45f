#include <loraga/svd/automatic.hpp>

#include "checks.hpp"

using loraga::automatic_svd;
using loraga::index_t;

TEST_CASE("the choice follows shape and number of triplets", "[svd]") {
  automatic_svd const a{.seed = 9}, tight{.quality = loraga::svd_quality::tight, .seed = 9};
  CHECK(a.choose(4096, 64, 16).exact);       // a small side
  CHECK(a.choose(768, 768, 256).exact);      // half the side wanted
  CHECK(a.choose(1500, 4096, 512).exact);    // the same, with the other side large
  CHECK(!a.choose(4096, 4096, 1024).exact);  // an exact 4096x4096 is opt-in
  CHECK(!a.choose(4096, 4096, 16).exact);
  CHECK(a.choose(4096, 4096, 16).krylov.block == 16);
  CHECK(a.choose(4096, 4096, 64).krylov.block == 32);
  CHECK(a.choose(4096, 4096, 256).krylov.block == 64);
  CHECK(a.choose(4096, 4096, 256).krylov.seed == 9);
  for (index_t const k : {2, 16, 48, 64, 128, 256})
    CHECK(tight.choose(4096, 4096, k).krylov.depth > a.choose(4096, 4096, k).krylov.depth);
}
TEST_CASE("where passes cost, blocks are wide and passes few", "[svd]") {
  automatic_svd const a{.seed = 9}, tight{.quality = loraga::svd_quality::tight, .seed = 9};
  auto const wide = [](automatic_svd const& svd, index_t small, index_t large, index_t k) {
    return svd.choose(small, large, k, loraga::svd_cost::passes);
  };
  for (index_t const k : {2, 16, 64, 256}) {
    auto const few = wide(a, 4096, 4096, k), more = wide(tight, 4096, 4096, k);
    CHECK((!few.exact && few.iterates && few.iteration.seed == 9));
    CHECK(few.iteration.width >= k + k / 2);
    CHECK(few.iteration.iterations < a.choose(4096, 4096, k).krylov.depth);
    CHECK(more.iteration.width * (1 + more.iteration.iterations) >=
          few.iteration.width * (1 + few.iteration.iterations));
  }
  CHECK(wide(a, 64, 4096, 16).exact);
  CHECK(wide(a, 700, 4096, 256).exact);
  CHECK(!wide(a, 1024, 1024, 256).exact);  // an eigenproblem of 384 instead of 1024
  for (index_t const small : {65, 100, 300, 1000, 3000})
    for (index_t k = 1; k <= small; k += 1 + small / 50)
      if (auto const c = wide(a, small, small + 7, k); !c.exact) CHECK(c.iteration.width >= k);
}
TEST_CASE("the basis always holds the triplets and fits the side", "[svd]") {
  for (index_t const small : {65, 100, 300, 1000, 3000})
    for (index_t k = 1; k <= small; k += 1 + small / 50) {
      auto const c = automatic_svd{}.choose(small, small + 7, k);
      if (!c.exact) CHECK(c.krylov.width(k) >= k);
    }
}
TEST_CASE("automatic: hard inputs, batches, refusals, both regimes", "[svd]") {
  test::check_hard_inputs<float>(automatic_svd{}, 40, 25, 6);
  test::check_hard_inputs<float>(automatic_svd{}, 150, 170, 6);
  test::check_batch(automatic_svd{}, 130, 140, 4);
  test::check_refusals(automatic_svd{});
}
TEST_CASE("quality holds on the flattest spectrum", "[svd]") {
  auto be = test::make_backend();
  std::vector<double> sigma;
  double best = 0;
  for (int i = 1; i <= 300; ++i) sigma.push_back(1 / std::sqrt(i));
  for (int i = 0; i < 16; ++i) best += sigma[static_cast<std::size_t>(i)] * sigma[static_cast<std::size_t>(i)];
  auto a = test::upload<float>(be, test::with_spectrum(320, 300, sigma, 2));
  auto const loss = [&](automatic_svd svd) {
    double sum = 0;
    for (double const s : test::download_triplets(be, test::factor(be, svd, a, 16)).s) sum += s * s;
    return 1 - sum / best;
  };
  CHECK(loss({}) < 1e-3);
  CHECK(loss({.quality = loraga::svd_quality::tight}) < 1e-4);
}
