#include <loraga/adapter/low_rank_factors.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

/// What every adapter derives from, with three further numbers behind A and B.
template <class T>
struct bare : low_rank_factors<T, test::backend> {
  using low_rank_factors<T, test::backend>::low_rank_factors;
  bare(test::backend& be, index_t out, index_t in, index_t rank)
      : low_rank_factors<T, test::backend>(be, out, in, rank, constant_scaling{2}, {}, 3) {}
  using low_rank_factors<T, test::backend>::start;
  using low_rank_factors<T, test::backend>::values_changed;
  auto rest() { return this->rest_of(this->values_.view()); }
  auto parameters() { return this->factor_parameters(); }
};

}  // namespace

TEST_CASE("A, B and the rest share one buffer and do not overlap", "[adapter]") {
  auto be = test::make_backend();
  bare<float> f(be, 5, 4, 2);
  CHECK(f.gradient().rows == 2 * (5 + 4) + 3);
  fill(be, f.a(), 1);
  fill(be, f.b(), 2);
  fill(be, f.rest(), 3);
  CHECK(test::distance(download(be, f.a()), host(2, 4, 1)) == 0);
  CHECK(test::distance(download(be, f.b()), host(5, 2, 2)) == 0);
  CHECK(test::distance(download(be, f.rest()), host(3, 1, 3)) == 0);
  bare<bf16> narrow(be, 5, 4, 2);
  fill(be, narrow.rest(), 3);
  narrow.values_changed(be);
  for (auto const& p : narrow.parameters()) CHECK(test::largest(download(be, p.master)) == 0);
}

TEST_CASE("an anchor that fails leaves W, and no pair for the next start", "[adapter]") {
  auto be = test::make_backend();
  bare<double> f(be, 5, 2, 2);
  auto a = upload<double>(be, test::random(2, 2, 1)), b = upload<double>(be, test::random(5, 2, 2));
  auto w = upload<double>(be, test::random(5, 2, 3));
  const_view<double, test::space> const start_a = a.view(), start_b = b.view();
  host const before = download(be, b.view());
  CHECK_THROWS_AS(f.subtract_start(be, b.view(), start_a, start_b), alias_error);  // W must not be B0 itself
  CHECK(test::distance(download(be, b.view()), before) == 0);
  CHECK(!f.anchored_in_place());
  f.start(be, start_a, start_b);
  CHECK(!f.paired());
  f.freeze_start(be, start_a, start_b);
  f.start(be, start_a, start_b);
  CHECK(f.paired());
  host const old = download(be, w.view());
  f.subtract_start(be, w.view(), start_a, start_b);
  f.start(be, start_a, start_b);
  CHECK(f.anchored_in_place());
  CHECK(!f.paired());
  CHECK(test::distance(download(be, w.view()), old - 2 * (before * download(be, a.view()))) < 1e-14);
  CHECK_THROWS_AS(f.check_start(), state_error);
}
