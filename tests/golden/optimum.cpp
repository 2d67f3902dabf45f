// docs/mathematics.md, golden cases 2, 6 and 7: the first step is the best a rank-2r step can be.
#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;

namespace {

using adapter = lora<double, test::backend>;

struct start_of {
  adapter ad;
  host a, b;
};
start_of start(test::backend& be, host const& g, index_t r, lora_ga_init init) {
  dense_gradient<test::backend, double> gradient(be, g.rows, g.cols);
  gradient.add(be, test::upload<double>(be, g).view());
  adapter ad(be, g.rows, g.cols, r, rank_stable_scaling{16});
  initialise(be, ad, init, gram{}, gradient, frozen_pair_anchor{});
  host const a = download(be, ad.a()), b = download(be, ad.b());
  return {std::move(ad), a, b};
}
host leading_part(host const& g, index_t k) {
  auto const t = test::jacobi_svd(g);
  return test::columns(t.u, 0, k) * test::diagonal(k, k, {t.s.begin(), t.s.begin() + k}) *
         transpose(test::columns(t.v, 0, k));
}

}  // namespace

TEST_CASE("golden: s^2*(G*AT*A + B*BT*G) = s^2*c^2*G_(2r), and the objective meets its floor", "[golden]") {
  for (auto const& [m, n] : {std::pair{20, 14}, {14, 20}, {16, 16}}) {
    auto be = test::make_backend();
    host const g = test::with_spectrum(m, n, test::geometric(std::min(m, n), 0.85), 3);
    auto const sigma = test::jacobi_svd(g).s;
    for (auto const d : {ga_directions::ArB2r, ga_directions::A2rBr, ga_directions::ArBr, ga_directions::random}) {
      auto const s = start(be, g, 3, {.directions = d});
      double const s2 = s.ad.scale() * s.ad.scale(), c2 = std::sqrt(static_cast<double>(m)) / 16, zeta = s2 * c2;
      host const step = s2 * (g * transpose(s.a) * s.a + s.b * transpose(s.b) * g);
      CHECK(test::distance(step, zeta * leading_part(g, 6)) < 1e-12 * (1 + zeta));
      double floor = 0;
      for (std::size_t i = 6; i < sigma.size(); ++i) floor += sigma[i] * sigma[i];
      CHECK(test::norm(step - zeta * g) == Approx(zeta * std::sqrt(floor)).epsilon(1e-10));
    }
  }
}

TEST_CASE("golden: one index set for both factors, as a peer draws it, is not optimal", "[golden]") {
  host const g = test::with_spectrum(20, 14, test::geometric(14, 0.85), 3);
  auto const t = test::jacobi_svd(g);
  host const a = transpose(test::columns(t.v, 0, 3)), b = test::columns(t.u, 0, 3);
  host const step = g * transpose(a) * a + b * transpose(b) * g;
  double floor = 0;
  for (std::size_t i = 6; i < t.s.size(); ++i) floor += t.s[i] * t.s[i];
  CHECK(test::norm(step - g) > 1.2 * std::sqrt(floor));
}

TEST_CASE("golden: the first SGD step changes s*B*A by -lr*s^2*c^2*G_(2r)", "[golden]") {
  auto be = test::make_backend();
  index_t const m = 18, n = 12, tokens = 15, r = 3;
  host const w = test::random(m, n, 1), x = test::random(n, tokens, 2), target = test::random(m, tokens, 3);
  // L = |W'x - target|^2/(2*unit): dY = (Y - target)/unit, G = dY*XT at the start, of norm 1
  double const unit = test::norm((w * x - target) * transpose(x));
  host const g = 1 / unit * ((w * x - target) * transpose(x));
  auto s = start(be, g, r, {});
  auto dw = test::upload<double>(be, w), dx = test::upload<double>(be, x);
  adapter::tape t;
  host const y = test::run_forward(be, s.ad, dw.view(), dx.view(), t);
  auto dy = test::upload<double>(be, 1 / unit * (y - target));
  (void)s.ad.backward(be, dw.view(), dx.view(), dy.view(), t, 0.0, test::view<double>{});
  double const rate = 1e-6, c2 = std::sqrt(static_cast<double>(m)) / 16;
  for (auto const& p : s.ad.parameters()) axpby(be, -rate, p.gradient, 1.0, p.value);
  host const now = download(be, s.ad.b()) * download(be, s.ad.a());
  host const change = s.ad.scale() * (now - s.b * s.a);
  host const expected = -rate * s.ad.scale() * s.ad.scale() * c2 * leading_part(g, 2 * r);
  CHECK(test::norm(change - expected) < 5e-6 * test::norm(expected));
}

TEST_CASE("golden: with the gd scale one step equals the truncated gradient step of full fine-tuning", "[golden]") {
  auto be = test::make_backend();
  host const g = test::with_spectrum(18, 12, test::geometric(12, 0.8), 5);
  auto const s = start(be, g, 2, {.scale = ga_scale::gd});
  double const s2 = s.ad.scale() * s.ad.scale();
  CHECK(test::distance(s2 * (g * transpose(s.a) * s.a + s.b * transpose(s.b) * g), leading_part(g, 4)) < 1e-12);
}

TEST_CASE("golden: the mean over micro-batches is the gradient of the mean loss", "[golden]") {
  auto be = test::make_backend();
  host const dy = test::random(10, 24, 1), x = test::random(8, 24, 2);
  dense_gradient<test::backend, double> parts(be, 10, 8), whole(be, 10, 8), left(be, 10, 8), right(be, 10, 8);
  for (index_t i = 0; i < 4; ++i) {  // each micro-batch's loss is its own token mean
    auto const part_dy = test::upload<double>(be, 1.0 / 6 * test::columns(dy, 6 * i, 6));
    auto const part_x = test::upload<double>(be, test::columns(x, 6 * i, 6));
    parts.add_outer(be, part_dy.view(), part_x.view());
    (i < 2 ? left : right).add_outer(be, part_dy.view(), part_x.view());
  }
  whole.add_outer(be, test::upload<double>(be, 1.0 / 24 * dy).view(), test::upload<double>(be, x).view());
  auto const mean = [&](auto& g) { return 1 / g.weight() * download(be, g.sum()); };
  CHECK(test::distance(mean(parts), mean(whole)) < 1e-14);
  left.merge(be, right);  // two ranks reduced
  CHECK(test::distance(mean(left), mean(whole)) < 1e-14);
}
