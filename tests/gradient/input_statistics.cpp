#include <loraga/gradient/input_statistics.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

namespace {

struct weighted {
  host x;
  double weight;
};
/// Micro-batches of different sizes and weights around a mean that is large beside their spread.
std::vector<weighted> sample(index_t in, double offset = 30) {
  std::vector<weighted> all;
  for (int i = 0; i < 4; ++i) {
    auto const seed = static_cast<std::uint64_t>(10 * i);
    index_t const tokens = 20 + 15 * i;
    host const spread = test::diagonal(in, in, test::geometric(in, 0.8));
    host const mean = test::generate(in, tokens, [&](index_t r, index_t) { return offset * std::cos(double(r)); });
    all.push_back({test::orthonormal(in, in, 7) * (spread * test::random(in, tokens, seed)) + mean, 1 + 0.5 * i});
  }
  return all;
}

/// The same, two passes over all tokens.
struct naive {
  host mean, scatter, moment;
  double mass = 0, weight = 0;
  explicit naive(std::vector<weighted> const& all, bool by_peak = false) {
    index_t const in = all[0].x.rows;
    mean = host(in, 1), scatter = moment = host(in, in);
    for (int pass = 0; pass < 2; ++pass) {
      for (auto const& b : all) {
        host const x = 1 / (by_peak ? test::largest(b.x) : 1) * b.x;
        if (pass == 0) {
          mean = mean + b.weight * (x * host(x.cols, 1, 1.0));
          moment = moment + b.weight * (x * test::transpose(x));
          mass += b.weight * static_cast<double>(x.cols);
          weight += b.weight;
        } else {
          host const centred = x - mean * host(1, x.cols, 1.0);
          scatter = scatter + b.weight * (centred * test::transpose(centred));
        }
      }
      if (pass == 0) mean = 1 / mass * mean;
    }
    moment = 1 / weight * moment;
  }
};

template <class T>
void add_all(test::backend& be, input_statistics<test::backend, T>& s, std::vector<weighted> const& all) {
  for (auto const& b : all) s.add(be, test::upload<T>(be, b.x).view(), b.weight);
}
template <class S>
host moment(test::backend& be, S const& s) {
  matrix<double, test::backend> to(be, s.features(), s.features());
  s.second_moment(be, to.view());
  return test::download(be, to.view());
}
template <class S>
void check_equal(test::backend& be, S const& s, naive const& want, double tolerance) {
  CHECK(s.weight() == Approx(want.weight));
  CHECK(s.mass() == Approx(want.mass));
  CHECK(test::distance(test::download(be, s.mean()), want.mean) < tolerance * test::largest(want.mean));
  CHECK(test::distance(test::download(be, s.scatter()), want.scatter) < tolerance * test::largest(want.scatter));
  CHECK(test::distance(moment(be, s), want.moment) < tolerance * test::largest(want.moment));
}

}  // namespace

TEMPLATE_TEST_CASE("input statistics equal those of all tokens at once, also by peak and merged", "[gradient]", float,
                   double) {
  auto be = test::make_backend();
  index_t const in = 18;
  auto const all = sample(in);
  using statistics = input_statistics<test::backend, TestType>;
  for (bool const by_peak : {false, true}) {
    naive const want(all, by_peak);
    // where the mean is 30 times the spread, a sum of squares in float would be off by 1e-3
    double const tolerance = std::is_same_v<TestType, double> ? 1e-12 : 2e-5;
    statistics s(be, in, {by_peak}), first(be, in, {by_peak}), rest(be, in, {by_peak}), empty(be, in, {by_peak});
    add_all(be, s, all);
    CHECK(s.count() == 4);
    check_equal(be, s, want, tolerance);
    add_all(be, first, {all.begin(), all.begin() + 1});
    add_all(be, rest, {all.begin() + 1, all.end()});
    first.merge(be, empty);
    empty.merge(be, rest);
    first.merge(be, empty);
    CHECK(first.count() == 4);
    check_equal(be, first, want, tolerance);
    auto const bits = read_all(be, s.scatter());
    s.reset(be);
    CHECK(s.count() == 0);
    CHECK(s.mass() == 0);
    add_all(be, s, all);
    CHECK(read_all(be, s.scatter()) == bits);
  }
}

TEST_CASE("principal directions: deviations, the whole variance, one and several at once", "[gradient]") {
  auto be = test::make_backend();
  auto const all = sample(18), other = sample(18, 1);
  naive const want(all);
  input_statistics<test::backend> s(be, 18), t(be, 18);
  add_all(be, s, all);
  add_all(be, t, other);
  auto const exact = test::jacobi_svd(1 / want.mass * want.scatter);
  input_statistics<test::backend> const* const both[] = {&t, &s};
  auto const single = s.top(be, gram{}, 5);
  auto const batch = input_statistics<test::backend>::top(be, gram{}, both, 5);
  auto const got = test::download_triplets(be, batch, 1);
  double variance = 0;
  for (double const v : exact.s) variance += v;
  CHECK(batch.energy[1] == Approx(variance).epsilon(1e-4));
  for (std::size_t i = 0; i < 5; ++i) CHECK(got.s[i] * got.s[i] == Approx(exact.s[i]).epsilon(1e-3));
  CHECK(test::subspace_distance(got.v, test::columns(exact.v, 0, 5)) < 1e-3);
  CHECK(test::distance(got.u, got.v) < 1e-4);
  CHECK(coverage(be, single, 0, 5) ==
        Approx((exact.s[0] + exact.s[1] + exact.s[2] + exact.s[3] + exact.s[4]) / variance).epsilon(1e-4));
  CHECK(test::distance(test::download_triplets(be, single).v, got.v) <= (test::batches_keep_bits ? 0 : 1e-4));
}

TEST_CASE("16-bit inputs, one token, all zero, all the same, NaN", "[gradient]") {
  auto be = test::make_backend();
  input_statistics<test::backend> s(be, 3, {.by_peak = true}), plain(be, 3);
  s.add(be, test::upload<bf16>(be, host(3, 1, -4.0)).view());
  CHECK(test::download(be, s.mean())(2, 0) == -1);  // divided by |x|, not by x
  CHECK(test::largest(test::download(be, s.scatter())) == 0);
  CHECK(test::distance(moment(be, s), host(3, 3, 1.0)) < 1e-7);
  s.add(be, test::upload<fp16>(be, host(3, 1)).view());  // zero has no peak
  CHECK(test::download(be, s.mean())(0, 0) == -0.5);
  plain.add(be, test::upload<float>(be, host(3, 50, 0.1)).view());
  CHECK(plain.top(be, gram{}, 1).flags[0] == svd_zero);
  for (double const bad : {NAN, INFINITY})
    for (bool const by_peak : {false, true}) {
      input_statistics<test::backend> poisoned(be, 3, {by_peak});
      host x = test::random(3, 10, 1);
      poisoned.add(be, test::upload<float>(be, x).view());
      x(1, 4) = bad;
      poisoned.add(be, test::upload<float>(be, x).view());
      CHECK(poisoned.top(be, gram{}, 1).flags[0] == svd_not_finite);
    }
}

TEST_CASE("bad arguments are refused and change nothing", "[gradient]") {
  auto be = test::make_backend();
  using statistics = input_statistics<test::backend>;
  statistics s(be, 3), by_peak(be, 3, {.by_peak = true}), wide(be, 4);
  auto const x = test::upload<float>(be, test::random(3, 10, 1));
  CHECK_THROWS_AS(s.top(be, gram{}, 1), state_error);
  s.add(be, x.view());
  auto const bits = read_all(be, s.scatter());
  CHECK_THROWS_AS(statistics(be, 0), value_error);
  CHECK_THROWS_AS(s.add(be, x.view().transposed()), shape_error);
  CHECK_THROWS_AS(s.add(be, x.view().columns(0, 0)), shape_error);
  CHECK_THROWS_AS(s.add(be, x.view(), 0.0), value_error);
  CHECK_THROWS_AS(s.add(be, x.view(), NAN), value_error);
  CHECK_THROWS_AS(s.merge(be, wide), shape_error);
  CHECK_THROWS_AS(s.merge(be, by_peak), state_error);
  CHECK_THROWS_AS(s.top(be, gram{}, 4), shape_error);
  CHECK(read_all(be, s.scatter()) == bits);
  CHECK(s.count() == 1);
}
