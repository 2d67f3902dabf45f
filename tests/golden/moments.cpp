// docs/mathematics.md, golden cases 3, 4 and 5: sizes the stable scale gives, and the stacked form of a frozen pair.
#include "../init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;

namespace {

struct started {
  host a, b;
  double s;
  host change() const { return s * (b * a); }
};

started start(index_t m, index_t n, index_t r, double gamma, auto scaling) {
  test::backend be = test::make_backend();
  dense_gradient<test::backend> gradient(be, m, n);
  gradient.add(be, test::upload<float>(be, test::random(m, n, 3)).view());  // full rank
  lora<float, test::backend> ad(be, m, n, r, scaling);
  initialise(be, ad, lora_ga_init{.gamma = gamma}, gram{}, gradient, frozen_pair_anchor{});
  return {download(be, ad.a()), download(be, ad.b()), ad.scale()};
}

/// Mean over outputs of E[(s*B*A*x)_j^2] for x of unit variance: the squared row norms.
double output_moment(started const& t) {
  double const n = test::norm(t.change());
  return n * n / static_cast<double>(t.b.rows);
}

}  // namespace

TEST_CASE("golden: output second moments", "[golden]") {
  CHECK(output_moment(start(512, 256, 8, 16, rank_stable_scaling{16})) == Approx(1.0).epsilon(1e-4));
  CHECK(output_moment(start(256, 1024, 8, 64, rank_stable_scaling{16})) == Approx(0.0625).epsilon(1e-4));
  CHECK(output_moment(start(512, 256, 8, 16, classic_scaling{16})) == Approx(0.125).epsilon(1e-4));
  CHECK(output_moment(start(1024, 512, 32, 16, classic_scaling{8})) == Approx(0.0078125).epsilon(1e-4));
}

TEST_CASE("golden: norms of the offset", "[golden]") {
  for (index_t const r : {8, 32}) {
    auto const t = start(512, 256, r, 16, rank_stable_scaling{16});
    CHECK(test::norm(t.change()) == Approx(22.627417).epsilon(1e-4));
    double const rms = test::norm(t.change()) / std::sqrt(512.0 * 256.0);
    CHECK(rms == Approx(t.s * std::sqrt(static_cast<double>(r)) / (16 * std::sqrt(256.0))).epsilon(1e-4));
  }
  // spectral norm s*sqrt(m)/gamma: every singular value of the offset is the same
  auto const t = start(60, 40, 4, 16, rank_stable_scaling{16});
  auto const sigma = test::jacobi_svd(t.change()).s;
  for (std::size_t i = 0; i < 4; ++i) CHECK(sigma[i] == Approx(t.s * std::sqrt(60.0) / 16).epsilon(1e-4));
  CHECK(sigma[4] < 1e-4);
}

TEST_CASE("golden: the stacked pair is the whole change of W, after A and B have moved", "[golden]") {
  test::fixture<double> f(20, 16, 3);
  lora<double, test::backend> ad(f.be, 20, 16, 3, rank_stable_scaling{});
  initialise(f.be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  test::upload_to<double>(f.be, test::random(3, 16, 8), ad.a());
  test::upload_to<double>(f.be, test::random(20, 3, 9), ad.b());
  host const a = download(f.be, ad.a()), b = download(f.be, ad.b());
  host const a0 = download(f.be, ad.start_a()), b0 = download(f.be, ad.start_b());
  host const stacked_a = test::generate(6, 16, [&](index_t i, index_t j) { return i < 3 ? a(i, j) : a0(i - 3, j); });
  host const stacked_b = test::generate(20, 6, [&](index_t i, index_t j) { return j < 3 ? b(i, j) : -b0(i, j - 3); });
  auto w = test::upload<double>(f.be, host(20, 16));
  ad.merge(f.be, w.view());
  CHECK(test::distance(download(f.be, w.view()), ad.scale() * (stacked_b * stacked_a)) < 1e-12);
}
