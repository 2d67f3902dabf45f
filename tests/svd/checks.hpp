#pragma once
#include "../support/backend.hpp"
#include "../support/catch.hpp"

// What every SVD method must do, asked in the same words.

namespace test {

/// Triplets are orthonormal, descending, obey the sign rule, reproduce A*v = s*u, and span the right subspaces.
/// `gap` says whether singular values k and k+1 are apart, so that subspaces can be compared.
template <class T>
void check_triplets(host const& a, triplets const& got, index_t k, double tolerance, bool gap = true) {
  auto const want = jacobi_svd(a);
  double const unit = std::is_same_v<T, double> ? 1e-12 : 1e-5;
  CHECK(orthonormality(got.u) < unit);
  CHECK(orthonormality(got.v) < unit);
  for (index_t i = 0; i < k; ++i) {
    auto const n = static_cast<std::size_t>(i);
    CHECK(std::abs(got.s[n] - want.s[n]) <= tolerance * want.s[0]);
    if (i > 0) CHECK(got.s[n] <= got.s[n - 1]);
    host const u = columns(got.u, i, 1);
    double const peak =
        *std::max_element(u.data.begin(), u.data.end(), [](double x, double y) { return std::abs(x) < std::abs(y); });
    CHECK(peak > 0);
  }
  CHECK(norm(a * got.v - got.u * diagonal(k, k, got.s)) <= 4 * std::sqrt(tolerance) * norm(a));
  if (!gap) return;
  CHECK(subspace_distance(got.u, columns(want.u, 0, k)) < 40 * std::sqrt(tolerance));
  CHECK(subspace_distance(got.v, columns(want.v, 0, k)) < 40 * std::sqrt(tolerance));
}

/// Singular values i^-1/2 with a step of a factor 3 after the k-th, so that the leading subspace is well defined.
inline std::vector<double> stepped(index_t n, index_t k) {
  std::vector<double> s;
  for (index_t i = 1; i <= n; ++i) s.push_back((i <= k ? 3.0 : 1.0) / std::sqrt(static_cast<double>(i)));
  return s;
}

/// Everything below for one method, in float and double. `tolerance` is of squared, relative quantities.
template <class T, class Svd>
void check_method(Svd const& svd, index_t rows, index_t cols, index_t k, double tolerance) {
  auto be = make_backend();
  index_t const p = std::min(rows, cols);
  host const a = with_spectrum(rows, cols, stepped(p, k), 11);
  auto d = upload<T>(be, a);
  auto const r = factor(be, svd, d, k);
  INFO(rows << "x" << cols << " k " << k);
  CHECK(r.flags[0] == loraga::svd_usable);
  CHECK(r.energy[0] == Approx(norm(a) * norm(a)).epsilon(1e-5));
  auto const got = download_triplets(be, r);
  check_triplets<T>(a, got, k, tolerance);
  CHECK(distance(download(be, d.view()), download(be, upload<T>(be, a).view())) == 0);  // the input is not touched

  // the same matrix the other way round in memory gives the same triplets
  auto t = upload<T>(be, transpose(a));
  loraga::matrix_view<T const, space> const by_rows = t.view().transposed();
  auto const s = download_triplets(be, svd.top(be, loraga::view_list(&by_rows, 1), k));
  CHECK(distance(s.u, got.u) < 1e-2);
  CHECK(distance(s.v, got.v) < 1e-2);
}

/// Matrices that need care: rank below k, zero, extreme scales, one bad entry, equal singular values.
/// `exact_rank`: the method reports 0 for singular values below what a Gram matrix in double can tell.
template <class T, class Svd>
void check_hard_inputs(Svd const& svd, index_t rows, index_t cols, index_t k, bool exact_rank = false) {
  auto be = make_backend();
  double const unit = std::is_same_v<T, double> ? 1e-12 : 1e-5;
  auto const run = [&](host const& a) {
    auto d = upload<T>(be, a);
    auto const r = factor(be, svd, d, k);
    return std::pair{r.flags[0], download_triplets(be, r)};
  };
  {
    INFO("rank 2 below k = " << k);
    host const a = with_spectrum(rows, cols, {2, 1}, 5);
    auto const [flags, t] = run(a);
    CHECK(flags == loraga::svd_usable);
    CHECK(orthonormality(t.u) < unit);
    CHECK(orthonormality(t.v) < unit);
    CHECK(t.s[0] == Approx(2).epsilon(1e-5));
    CHECK(t.s[1] == Approx(1).epsilon(1e-5));
    for (std::size_t i = 2; i < t.s.size(); ++i) CHECK(std::abs(t.s[i]) < (exact_rank ? 1e-300 : 1e-5));
    CHECK(norm(a - t.u * diagonal(k, k, t.s) * transpose(t.v)) < 1e-4);
  }
  {
    INFO("zero");
    auto const [flags, t] = run(host(rows, cols));
    CHECK(flags == loraga::svd_zero);
    CHECK(orthonormality(t.u) < unit);
    CHECK(orthonormality(t.v) < unit);
    for (double const s : t.s) CHECK(s == 0);
  }
  {
    INFO("scales");
    host const a = with_spectrum(rows, cols, stepped(std::min(rows, cols), k), 6);
    auto const [flags, t] = run(a);
    for (double const scale : {1e-22, 1e-30, 1e18}) {
      auto const [scaled_flags, scaled] = run(scale * a);
      CHECK(scaled_flags == loraga::svd_usable);
      for (std::size_t i = 0; i < t.s.size(); ++i) CHECK(scaled.s[i] == Approx(scale * t.s[i]).epsilon(1e-4));
      CHECK(subspace_distance(scaled.u, t.u) < 1e-2);
    }
  }
  for (double const bad : {NAN, INFINITY, -INFINITY}) {
    INFO("an entry " << bad);
    host a = random(rows, cols, 7);
    a(rows - 1, cols / 2) = bad;
    CHECK(run(a).first == loraga::svd_not_finite);
  }
  {
    INFO("equal singular values");
    auto const [flags, t] =
        run(with_spectrum(rows, cols, std::vector<double>(static_cast<std::size_t>(std::min(rows, cols)), 1.0), 8));
    CHECK(flags == loraga::svd_usable);
    CHECK(orthonormality(t.u) < unit);
    CHECK(orthonormality(t.v) < unit);
    for (double const s : t.s) CHECK(s == Approx(1).epsilon(1e-4));
  }
  {
    INFO("fast decay");
    auto const [flags, t] = run(with_spectrum(rows, cols, geometric(std::min(rows, cols), 0.3), 9));
    CHECK(flags == loraga::svd_usable);
    CHECK(orthonormality(t.u) < unit);
    CHECK(orthonormality(t.v) < unit);
  }
}

/// A batch gives its members' triplets (on a CPU bit for bit, for any number of threads); bad members do not disturb
/// good ones.
/// `repeats`: the same call on another backend has the same bits.
template <class Svd>
void check_batch(Svd const& svd, index_t rows, index_t cols, index_t k, bool repeats = true) {
  std::vector<host> matrices;
  for (std::uint64_t i = 0; i < 6; ++i)
    matrices.push_back(with_spectrum(rows, cols, stepped(std::min(rows, cols), k), 20 + i));
  matrices[2] = host(rows, cols);
  matrices[4](0, 0) = NAN;
  matrices[5] = 1e-24 * matrices[5];
  std::vector<std::vector<float>> first;
  for (int const threads : {1, 2, 4}) {
    auto be = make_backend(threads);
    std::vector<loraga::matrix<float, backend>> memory;
    std::vector<loraga::const_view<float, space>> views;
    for (auto const& m : matrices) {
      memory.push_back(upload<float>(be, m));
      views.push_back(memory.back().view());
    }
    auto const all = svd.top(be, loraga::view_list(views.data(), 6), k);
    CHECK(all.flags == std::vector<int>{0, 0, loraga::svd_zero, 0, loraga::svd_not_finite, 0});
    for (index_t b = 0; b < 6; ++b) {
      auto const one = svd.top(be, loraga::view_list(&views[static_cast<std::size_t>(b)], 1), k);
      double const most = batches_keep_bits ? 0 : 1e-2;
      CHECK(distance(download(be, all[b].u), download(be, one[0].u)) <= most);
      CHECK(distance(download(be, all[b].s), download(be, one[0].s)) <= most);
      CHECK(distance(download(be, all[b].v), download(be, one[0].v)) <= most);
      auto const bits = loraga::read_all(be, all[b].v);
      if (threads == 1) first.push_back(bits);
      else if (repeats) CHECK(bits == first[static_cast<std::size_t>(b)]);
    }
  }
}

template <class Svd>
void check_refusals(Svd const& svd) {
  auto be = make_backend();
  auto a = upload<float>(be, random(8, 5, 1)), b = upload<float>(be, random(5, 8, 1));
  CHECK_THROWS_AS(factor(be, svd, a, 0), loraga::shape_error);
  CHECK_THROWS_AS(factor(be, svd, a, 6), loraga::shape_error);
  loraga::matrix_view<float const, space> const mixed[] = {a.view(), b.view()};
  CHECK_THROWS_AS(svd.top(be, loraga::view_list(mixed, 2), 2), loraga::shape_error);
  loraga::matrix_view<float const, space> const gaps(a.view().data, 4, 2, 2, 16);
  CHECK_THROWS_AS(svd.top(be, loraga::view_list(&gaps, 1), 1), loraga::shape_error);
  auto const none = svd.top(be, loraga::view_list<float const, space>{}, 2);
  CHECK(none.count() == 0);
}

}  // namespace test
