#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/svd/gram.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

TEST_CASE("sign_gradient factors the sign of the sum", "[gradient]") {
  auto be = test::make_backend();
  static_assert(GradientAccumulator<sign_gradient<test::backend>, test::backend>);
  sign_gradient<test::backend> one(be, 12, 9), other(be, 12, 9), whole(be, 12, 9);
  auto const batches = test::sample(12, 9, 20, 4, 0.5);
  test::add_all<float>(be, whole, batches, false);
  test::add_all<float>(be, one, {batches[0], batches[1]}, true);
  test::add_all<float>(be, other, {batches[2], batches[3]}, true);
  one.merge(be, other);
  host const mean = test::mean_gradient(batches);
  host const sign = test::generate(12, 9, [&](index_t i, index_t j) { return mean(i, j) > 0 ? 1.0 : -1.0; });
  for (auto const* g : {&whole, &one}) {
    auto const result = g->top(be, gram{}, 3);
    CHECK(result.flags[0] == svd_usable);
    CHECK(result.energy[0] == Approx(108));
    test::check_top(sign, test::download_triplets(be, result), 3, 1e-5);
  }
  static_assert(ReadableGradient<sign_gradient<test::backend>, test::backend>);
  CHECK(test::distance(test::read_estimate(be, one), sign) == 0);
  sign_gradient<test::backend> const* const both[] = {&whole, &other};
  auto const batch = sign_gradient<test::backend>::top(be, gram{}, both, 2);
  test::check_top(sign, test::download_triplets(be, batch, 0), 2, 1e-5);
}

TEST_CASE("sign_gradient: zeros count as none; faults surface; an empty one is refused", "[gradient]") {
  auto be = test::make_backend();
  sign_gradient<test::backend> g(be, 4, 4), bad(be, 4, 4);
  CHECK_THROWS_AS(g.top(be, gram{}, 1), state_error);
  g.add(be, test::upload<float>(be, test::diagonal(4, 4, {8, -4, 0, 1e-30})).view());
  auto const result = g.top(be, gram{}, 4);
  CHECK(test::download(be, result[0].s)(2, 0) == Approx(1));
  CHECK(test::download(be, result[0].s)(3, 0) < 1e-6);
  for (double const x : {NAN, INFINITY}) {
    bad.add(be, test::upload<float>(be, test::diagonal(4, 4, {x, 1, 1, 1})).view());
    CHECK(bad.top(be, gram{}, 1).flags[0] != svd_usable);
    bad.reset(be);
  }
}
