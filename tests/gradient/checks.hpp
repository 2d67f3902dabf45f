#pragma once
#include "../support/backend.hpp"
#include "../support/catch.hpp"

// What every gradient accumulator must do, asked in the same words.

namespace test {

struct micro_batch {
  host dy, x;
  double weight;
  host gradient() const { return dy * transpose(x); }
};

/// Micro-batches whose gradients share a strong leading part, as real ones do, plus full-rank noise.
inline std::vector<micro_batch> sample(index_t out, index_t in, index_t tokens, int count, double noise = 0.05) {
  std::vector<micro_batch> all;
  index_t const k = std::min<index_t>(4, std::min(out, in));
  host const a = orthonormal(out, k, 31), b = orthonormal(in, k, 32);
  for (int i = 0; i < count; ++i) {
    auto const seed = static_cast<std::uint64_t>(100 + 10 * i);
    host const common = random(k, tokens, seed);
    host const strengths = diagonal(k, k, geometric(k, 0.6));
    all.push_back({a * (strengths * common) + random(out, tokens, seed + 1, noise),
                   b * common + random(in, tokens, seed + 2, noise), 1.0 + 0.5 * i});
  }
  return all;
}
inline host mean_gradient(std::vector<micro_batch> const& batches) {
  host sum(batches[0].dy.rows, batches[0].x.rows);
  double weight = 0;
  for (auto const& b : batches) {
    sum = sum + b.weight * b.gradient();
    weight += b.weight;
  }
  return 1 / weight * sum;
}

template <class T, class G>
void add_all(backend& be, G& g, std::vector<micro_batch> const& batches, bool outer) {
  for (auto const& b : batches) {
    if (outer) g.add_outer(be, upload<T>(be, b.dy).view(), upload<T>(be, b.x).view(), b.weight);
    else g.add(be, upload<T>(be, b.gradient()).view(), b.weight);
  }
}

/// Leading triplets of an accumulator against those of the exact mean: values and subspaces.
inline void check_top(host const& mean, triplets const& got, index_t k, double tolerance) {
  auto const want = jacobi_svd(mean);
  for (index_t i = 0; i < k; ++i)
    CHECK(std::abs(got.s[static_cast<std::size_t>(i)] - want.s[static_cast<std::size_t>(i)]) < tolerance * want.s[0]);
  CHECK(orthonormality(got.u) < 1e-5);
  CHECK(orthonormality(got.v) < 1e-5);
  // energy captured by both sides, the measure that matters
  double best = 0;
  for (index_t i = 0; i < k; ++i) best += want.s[static_cast<std::size_t>(i)] * want.s[static_cast<std::size_t>(i)];
  double const left = norm(transpose(got.u) * mean), right = norm(mean * got.v);
  CHECK(1 - left * left / best < tolerance);
  CHECK(1 - right * right / best < tolerance);
}

/// What estimate() writes down.
template <class G>
host read_estimate(backend& be, G const& g) {
  loraga::matrix<typename G::value_type, backend> to(be, g.rows(), g.cols());
  g.estimate(be, to.view());
  return download(be, to.view());
}

/// `make(be, out, in)` builds the accumulator; `tolerance` is its allowed truncation, as a share of energy.
template <class T, class Make>
void check_accumulator(Make const& make, double tolerance) {
  auto be = make_backend();
  index_t const out = 40, in = 30, k = 8;
  auto const batches = sample(out, in, 60, 5);
  host const mean = mean_gradient(batches);
  loraga::gram const svd;
  for (bool const outer : {true, false}) {
    INFO((outer ? "add_outer" : "add"));
    auto g = make(be, out, in);
    CHECK(g.count() == 0);
    CHECK_THROWS_AS(g.top(be, svd, k), loraga::state_error);
    add_all<T>(be, g, batches, outer);
    CHECK(g.count() == 5);
    CHECK(g.weight() == Approx(1 + 1.5 + 2 + 2.5 + 3));
    auto const r = g.top(be, svd, k);
    CHECK(r.flags[0] == loraga::svd_usable);
    check_top(mean, download_triplets(be, r), k, tolerance);
    static_assert(loraga::ReadableGradient<decltype(g), backend>);
    CHECK(distance(read_estimate(be, g), mean) < (tolerance < 1e-4 ? 1e-6 : std::sqrt(tolerance)) * norm(mean));
    loraga::matrix<T, backend> small(be, out, in - 1);
    CHECK_THROWS_AS(g.estimate(be, small.view()), loraga::shape_error);
    auto const again = g.top(be, svd, k);  // reading changes nothing
    CHECK(loraga::read_all(be, again[0].u) == loraga::read_all(be, r[0].u));
    g.reset(be);
    CHECK(g.count() == 0);
    CHECK(g.weight() == 0);
    CHECK_THROWS_AS(g.top(be, svd, k), loraga::state_error);
    CHECK_THROWS_AS(read_estimate(be, g), loraga::state_error);
    add_all<T>(be, g, batches, outer);
    CHECK(loraga::read_all(be, g.top(be, svd, k)[0].u) == loraga::read_all(be, r[0].u));  // as new
  }
  {
    INFO("merging in order gives the whole");
    auto first = make(be, out, in), second = make(be, out, in), empty = make(be, out, in);
    add_all<T>(be, first, {batches.begin(), batches.begin() + 2}, true);
    add_all<T>(be, second, {batches.begin() + 2, batches.end()}, true);
    first.merge(be, second);
    first.merge(be, empty);
    CHECK(first.count() == 5);
    check_top(mean, download_triplets(be, first.top(be, svd, k)), k, tolerance);
    auto other = make(be, in, out);
    CHECK_THROWS_AS(first.merge(be, other), loraga::shape_error);
  }
  {
    INFO("a batch of accumulators");
    auto a = make(be, out, in), b = make(be, out, in);
    add_all<T>(be, a, batches, true);
    add_all<T>(be, b, {batches.begin(), batches.begin() + 1}, true);
    using G = decltype(a);
    G const* const both[] = {&a, &b};
    auto const r = G::top(be, svd, both, k);
    double const most = batches_keep_bits ? 0 : 1e-4;
    CHECK(distance(download(be, r[0].u), download(be, a.top(be, svd, k)[0].u)) <= most);
    CHECK(distance(download(be, r[1].v), download(be, b.top(be, svd, k)[0].v)) <= most);
    auto other = make(be, in, out);
    add_all<T>(be, other, sample(in, out, 10, 1), true);
    G const* const unequal[] = {&a, &other};
    CHECK_THROWS_AS(G::top(be, svd, unequal, k), loraga::shape_error);
  }
}

template <class T, class Make>
void check_accumulator_edges(Make const& make) {
  auto be = make_backend();
  loraga::gram const svd;
  auto const batches = sample(40, 30, 20, 2);
  auto const dy = upload<T>(be, batches[0].dy), x = upload<T>(be, batches[0].x);
  for (double const bad : {NAN, INFINITY}) {
    INFO("an entry " << bad << " poisons; the accumulator says so when it is read, also after more");
    auto g = make(be, 40, 30);
    add_all<T>(be, g, batches, true);
    host broken = batches[0].dy;
    broken(3, 3) = bad;
    g.add_outer(be, upload<T>(be, broken).view(), x.view());
    add_all<T>(be, g, batches, true);
    CHECK(g.top(be, svd, 4).flags[0] == loraga::svd_not_finite);
    CHECK(!std::isfinite(norm(read_estimate(be, g))));
    auto clean = make(be, 40, 30);
    clean.merge(be, g);
    CHECK((clean.top(be, svd, 4).flags[0] & loraga::svd_not_finite) != 0);
    g.reset(be);
    add_all<T>(be, g, batches, true);
    CHECK(g.top(be, svd, 4).flags[0] == loraga::svd_usable);
  }
  {
    INFO("zero gradients are a flag");
    auto g = make(be, 40, 30);
    g.add_outer(be, upload<T>(be, host(40, 20)).view(), x.view());
    CHECK(g.count() == 1);
    auto const r = g.top(be, svd, 4);
    CHECK(r.flags[0] == loraga::svd_zero);
    CHECK(orthonormality(download_triplets(be, r).u) < 1e-5);
    add_all<T>(be, g, batches, true);  // and no obstacle to what follows
    CHECK(g.top(be, svd, 4).flags[0] == loraga::svd_usable);
  }
  {
    INFO("bad arguments change nothing");
    auto g = make(be, 40, 30), same = make(be, 40, 30);
    add_all<T>(be, g, batches, true);
    add_all<T>(be, same, batches, true);
    auto const v = dy.view(), w = x.view();
    CHECK_THROWS_AS(g.add_outer(be, w, v), loraga::shape_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w.columns(0, 5)), loraga::shape_error);
    CHECK_THROWS_AS(g.add(be, v), loraga::shape_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w, 0.0), loraga::value_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w, -1.0), loraga::value_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w, NAN), loraga::value_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w, INFINITY), loraga::value_error);
    CHECK_THROWS_AS(g.add_outer(be, v, w, 1e-50), loraga::value_error);  // 0 in float
    CHECK_THROWS_AS(g.add(be, loraga::matrix_view<T const, space>(nullptr, 40, 30, 1, 40)), loraga::shape_error);
    std::vector<T> spaced(2 * 40 * 30);
    CHECK_THROWS_AS(g.add(be, loraga::matrix_view<T const, space>(spaced.data(), 40, 30, 2, 80)), loraga::shape_error);
    loraga::matrix_view<T const, space> const gaps(v.data, 40, 5, 2, 100);
    CHECK_THROWS_AS(g.add_outer(be, gaps, w.columns(0, 5)), loraga::shape_error);
    CHECK_THROWS_AS(g.top(be, svd, 0), loraga::shape_error);
    CHECK_THROWS_AS(g.top(be, svd, 31), loraga::shape_error);
    CHECK(g.count() == same.count());
    CHECK(loraga::read_all(be, g.top(be, svd, 4)[0].u) == loraga::read_all(be, same.top(be, svd, 4)[0].u));
  }
  CHECK_THROWS_AS(make(be, 0, 3), loraga::error);
}

}  // namespace test
