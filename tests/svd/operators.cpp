#include <loraga/svd/operators.hpp>

#include "checks.hpp"

using loraga::index_t;
using test::host;

TEST_CASE("operators multiply as the matrices they stand for", "[svd]") {
  auto be = test::make_backend();
  index_t const out = 9, in = 7, tokens = 12, l = 4;
  host const dy = test::random(out, tokens, 1), x = test::random(in, tokens, 2);
  host const u = test::orthonormal(out, 3, 3), v = test::orthonormal(in, 3, 4);
  std::vector<double> const sigma{3, 2, 1};
  auto ddy = test::upload<double>(be, dy), dx = test::upload<double>(be, x);
  auto du = test::upload<double>(be, u), dv = test::upload<double>(be, v);
  host s(3, 1);
  s.data = sigma;
  auto ds = test::upload<double>(be, s);
  loraga::svd_factors<double const, test::space> const base{du.view(), ds.view(), dv.view()};
  host const low_rank = u * test::diagonal(3, 3, sigma) * test::transpose(v);
  host const right = test::random(in, l, 5), left = test::random(out, l, 6);
  auto dright = test::upload<double>(be, right), dleft = test::upload<double>(be, left);
  loraga::slab<double, test::backend> y(be, 1, out, l), z(be, 1, in, l);

  auto const check = [&](auto const& op, host const& dense) {
    op.apply(be, loraga::slab_view(dright.view()), y.view());
    op.apply_transposed(be, loraga::slab_view(dleft.view()), z.view());
    CHECK(test::distance(test::download(be, y.view()[0]), dense * right) < 1e-12);
    CHECK(test::distance(test::download(be, z.view()[0]), test::transpose(dense) * left) < 1e-12);
  };
  using view = test::view<double>;
  host const outer = 0.5 * (dy * test::transpose(x));
  check(loraga::outer_operator<view, view, double, test::space>{ddy.view(), dx.view(), 0.5, {}}, outer);
  check(loraga::outer_operator<view, view, double, test::space>{ddy.view(), dx.view(), 0.5, base}, outer + low_rank);
  host const dw = test::random(out, in, 7);
  auto ddw = test::upload<double>(be, dw);
  check(loraga::sum_operator<view, double, test::space>{ddw.view(), 2.0, base}, 2.0 * dw + low_rank);
  loraga::matrix_view<double const, test::space> const one = ddw.view();
  check(loraga::dense_operator<double const, test::space>{loraga::view_list(&one, 1), 4.0}, 4.0 * dw);
}

TEST_CASE("safe scales are powers of two that bring norms near 1", "[svd]") {
  CHECK(loraga::safe_scale(1.0) == 1);
  CHECK(loraga::safe_scale(1e-20) == 1);
  for (double const energy : {1e-60, 1e-44, 1e40, 1e70}) {
    double const s = loraga::safe_scale(energy);
    CHECK(std::log2(s) == std::round(std::log2(s)));
    CHECK(energy * s * s > 0.1);
    CHECK(energy * s * s < 10);
  }
}
