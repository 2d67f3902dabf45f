#include <loraga/gradient/projected.hpp>

#include "checks.hpp"

using namespace loraga;
using test::backend;

namespace {

/// Share of the energy of the mean's k leading triplets that k left vectors miss.
double loss(test::host const& mean, test::triplets const& got, index_t k) {
  auto const want = test::jacobi_svd(mean);
  double best = 0;
  for (index_t i = 0; i < k; ++i) best += want.s[static_cast<std::size_t>(i)] * want.s[static_cast<std::size_t>(i)];
  double const e = test::norm(test::transpose(got.u) * mean);
  return 1 - e * e / best;
}

}  // namespace

TEST_CASE("a second pass in the first one's directions refines them", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(80, 70, 100, 6, 0.3);
  auto const mean = test::mean_gradient(batches);
  incremental_gradient<backend> first(be, 80, 70, {.rank = 4});
  test::add_all<float>(be, first, batches, true);
  projected_gradient<backend> second(be, first);
  CHECK(second.width() == 16);
  test::add_all<float>(be, second, batches, true);
  auto const before = loss(mean, test::download_triplets(be, first.top(be, gram{}, 8)), 8);
  auto const got = test::download_triplets(be, second.top(be, gram{}, 8));
  CHECK(before > 1e-3);
  CHECK(loss(mean, got, 8) < 0.5 * before);
  CHECK(test::orthonormality(got.u) < 1e-5);
  CHECK(test::orthonormality(got.v) < 1e-5);
}

TEST_CASE("a second pass is exact where the first one's directions hold all", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(30, 12, 40, 3, 0.5);
  incremental_gradient<backend, double> first(be, 30, 12, {.rank = 3});  // width 12: all of them
  test::add_all<double>(be, first, batches, true);
  for (bool const outer : {true, false}) {
    projected_gradient<backend, double> second(be, first);
    test::add_all<double>(be, second, batches, outer);
    CHECK(second.count() == 3);
    test::check_top(test::mean_gradient(batches), test::download_triplets(be, second.top(be, gram{}, 6)), 6, 1e-12);
    CHECK(test::distance(test::read_estimate(be, second), test::mean_gradient(batches)) < 1e-12);
  }
}

TEST_CASE("second passes merge in the same directions only, and refuse what they cannot use", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(20, 15, 30, 4, 0.3);
  incremental_gradient<backend, double> first(be, 20, 15, {.rank = 2}), other(be, 20, 15, {.rank = 2});
  CHECK_THROWS_AS((projected_gradient<backend, double>(be, first)), state_error);
  test::add_all<double>(be, first, batches, true);
  test::add_all<double>(be, other, {batches.begin(), batches.begin() + 1}, true);
  projected_gradient<backend, double> whole(be, first), a(be, first), b(be, first), elsewhere(be, other);
  test::add_all<double>(be, whole, batches, true);
  test::add_all<double>(be, a, {batches.begin(), batches.begin() + 2}, true);
  test::add_all<double>(be, b, {batches.begin() + 2, batches.end()}, true);
  a.merge(be, b);
  CHECK(a.count() == 4);
  CHECK(test::distance(test::read_estimate(be, a), test::read_estimate(be, whole)) < 1e-13);
  CHECK_THROWS_AS(a.merge(be, elsewhere), value_error);
  CHECK_THROWS_AS(a.top(be, gram{}, 9), shape_error);
  whole.reset(be);
  CHECK_THROWS_AS(whole.top(be, gram{}, 2), state_error);
  auto bad = test::upload<double>(be, test::random(20, 15, 1));
  fill(be, bad.view(), std::numeric_limits<double>::quiet_NaN());
  first.add(be, bad.view());
  CHECK_THROWS_AS((projected_gradient<backend, double>(be, first)), state_error);
  b.add(be, bad.view());
  CHECK(b.top(be, gram{}, 2).flags[0] != svd_usable);
}
