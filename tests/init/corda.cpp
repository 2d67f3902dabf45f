#include <loraga/init/corda.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

using statistics = input_statistics<test::backend>;

/// Two micro-batches with a few strong directions, and what they say.
struct measured {
  std::vector<host> x;
  explicit measured(index_t in) {
    host const strong = test::orthonormal(in, 3, 5) * test::diagonal(3, 3, {9, 5, 3});
    for (std::uint64_t i = 0; i < 2; ++i)
      x.push_back(strong * test::random(3, 40, 20 + i) + test::random(in, 40, 30 + i, 0.3));
  }
  statistics statistics_on(test::backend& be, bool by_peak = true) const {
    statistics s(be, x[0].rows, {by_peak});
    for (auto const& b : x) s.add(be, test::upload<float>(be, b).view());
    return s;
  }
  /// The damped second moment, the naive way.
  host damped() const {
    index_t const in = x[0].rows;
    host c(in, in);
    for (auto const& b : x) c = c + 0.5 / (test::largest(b) * test::largest(b)) * (b * test::transpose(b));
    double mean = 0;
    for (index_t i = 0; i < in; ++i) mean += c(i, i) / static_cast<double>(in);
    return c + 0.01 * mean * test::identity(in);
  }
};

/// Of a symmetric positive definite matrix.
host inverse(host const& c) {
  auto const t = test::jacobi_svd(c);
  std::vector<double> reciprocals;
  for (double const s : t.s) reciprocals.push_back(1 / s);
  return t.v * test::diagonal(c.rows, c.rows, reciprocals) * test::transpose(t.u);
}

}  // namespace

TEST_CASE("CorDA takes the part of W its inputs use most, or least", "[init]") {
  for (auto const& [out, in] : {std::pair{24, 16}, {16, 24}})
    for (auto const part : {corda_part::ipm, corda_part::kpm}) {
      auto be = test::make_backend();
      measured const m(in);
      auto const s = m.statistics_on(be);
      host const w = test::random(out, in, 3, 0.2), c = m.damped();
      auto dw = test::upload<float>(be, w);
      lora<float, test::backend> ad(be, out, in, 4, classic_scaling{8});
      initialise(be, ad, corda_init{part}, dw.view(), gram{}, s, in_place_anchor{});
      auto const t = test::jacobi_svd(w * c);
      index_t const first = part == corda_part::ipm ? 0 : 12;
      std::vector<double> const sigma(t.s.begin() + first, t.s.begin() + first + 4);
      host const u = test::columns(t.u, first, 4), v = inverse(c) * test::columns(t.v, first, 4);
      host const taken = u * test::diagonal(4, 4, sigma) * test::transpose(v);
      host const a = test::download(be, ad.a()), b = test::download(be, ad.b());
      CHECK(test::distance(ad.scale() * (b * a), taken) < 1e-4);
      CHECK(test::distance(test::download(be, dw.view()), w - taken) < 1e-4);
      host const roots = 0.5 * test::diagonal(4, 4, sigma);  // S/s, s = 2
      CHECK(test::distance(test::transpose(b) * b, roots) < 1e-4 * sigma[0]);
    }
}

TEST_CASE("CorDA: all triplets together are W; an anchored start changes nothing", "[init]") {
  auto be = test::make_backend();
  measured const m(12);
  auto const s = m.statistics_on(be);
  host const w = test::random(12, 12, 3, 0.2);
  auto dw = test::upload<float>(be, w);
  lora<double, test::backend> all(be, 12, 12, 12, classic_scaling{});
  initialise(be, all, corda_init{}, dw.view(), gram{}, s, frozen_pair_anchor{});
  CHECK(test::distance(all.scale() * (test::download(be, all.b()) * test::download(be, all.a())), w) < 1e-5);
  be.synchronize();  // what follows reads the statistics on backends of its own
  for (auto const part : {corda_part::ipm, corda_part::kpm})
    test::check_anchored_start(20, 12, 4, corda_init{part}, gram{}, s);
}

TEST_CASE("CorDA: damping keeps few tokens invertible; a strong outlier as well", "[init]") {
  auto be = test::make_backend();
  host x(16, 3, 1e-3);
  x(2, 0) = x(2, 1) = 300, x(2, 2) = 299;  // rank 3, and nearly rank 1
  statistics s(be, 16, {.by_peak = true});
  s.add(be, test::upload<float>(be, x).view());
  host const w = test::random(16, 16, 3, 0.2);
  auto dw = test::upload<float>(be, w);
  lora<double, test::backend> ad(be, 16, 16, 16, classic_scaling{});
  initialise(be, ad, corda_init{}, dw.view(), gram{}, s, frozen_pair_anchor{});
  CHECK(test::distance(ad.scale() * (test::download(be, ad.b()) * test::download(be, ad.a())), w) < 1e-4);
}

TEST_CASE("CorDA refuses what it cannot use, by name, and changes nothing", "[init]") {
  auto be = test::make_backend();
  measured const m(8);
  auto const s = m.statistics_on(be), plain = m.statistics_on(be, false);
  statistics zero(be, 8, {.by_peak = true}), bad(be, 8, {.by_peak = true}), empty(be, 8, {.by_peak = true});
  zero.add(be, test::upload<float>(be, host(8, 5)).view());
  bad.add(be, test::upload<float>(be, host(8, 5, NAN)).view());
  auto w = test::upload<float>(be, test::random(10, 8, 3));
  lora<float, test::backend> ad(be, 10, 8, 4, classic_scaling{}), wide(be, 10, 8, 9, classic_scaling{}),
      still(be, 10, 8, 4, classic_scaling{0});
  auto const start = [&](auto& adapter, auto const& inputs) {
    initialise(be, adapter, corda_init{}, w.view(), gram{}, inputs, in_place_anchor{});
  };
  CHECK_THROWS_AS(start(wide, s), shape_error);
  CHECK_THROWS_AS(start(still, s), value_error);
  CHECK_THROWS_WITH(start(ad, plain), Catch::Contains("by_peak"));
  CHECK_THROWS_AS(start(ad, empty), state_error);
  CHECK_THROWS_WITH(start(ad, zero), Catch::Contains("zero"));
  CHECK_THROWS_WITH(start(ad, bad), Catch::Contains("not finite"));
  CHECK_THROWS_AS(initialise(be, ad, corda_init{}, test::view<float>{}, gram{}, s, frozen_pair_anchor{}), value_error);
  fill(be, w.view(), NAN);
  CHECK_THROWS_WITH(start(ad, s), Catch::Contains("not finite"));
  CHECK(test::largest(test::download(be, ad.a())) == 0);
  CHECK(!ad.anchored_in_place());
}
