#include <loraga/adapter/rescaled_rows.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("rows are rescaled by g/N, but for zero ones, and restored", "[adapter]") {
  auto be = test::make_backend();
  host const g = test::random(4, 1, 1), n(4, 1, 2), w = test::random(4, 3, 2), d = test::random(4, 3, 3);
  auto dg = upload<double>(be, g), dn = upload<double>(be, n), ratio = upload<double>(be, host(4, 1)),
       dw = upload<double>(be, w), change = upload<double>(be, d);
  fill(be, dn.view().row_range(2, 1), 0);
  using view = test::view<double>;
  be.for_each(4, 1, detail::magnitude_ratio<view, view>{dg.view(), dn.view(), ratio.view()});
  host const r = download(be, ratio.view());
  for (index_t i = 0; i < 4; ++i) CHECK(r(i, 0) == (i == 2 ? 1 : g(i, 0) / 2));
  be.for_each(4, 3, detail::rescale_weight<view, view, view>{ratio.view(), change.view(), dw.view(), 1});
  host const expected = test::generate(4, 3, [&](index_t i, index_t j) { return r(i, 0) * (w(i, j) + d(i, j)); });
  CHECK(test::distance(download(be, dw.view()), expected) < 1e-15);
  be.for_each(4, 3, detail::restore_weight<view, view, view>{ratio.view(), change.view(), dw.view()});
  CHECK(test::distance(download(be, dw.view()), w) < 1e-14);
}

TEST_CASE("DoRA's sums and rescaling, beside W*x and in its place", "[adapter]") {
  auto be = test::make_backend();
  for (index_t const tokens : {1, 2, 7, 40}) {
    CAPTURE(tokens);
    host const r = test::random(5, 1, 1), bax = test::random(5, tokens, 2), wx = test::random(5, tokens, 3),
               old = test::random(5, tokens, 4), dy = test::random(5, tokens, 5);
    auto const rescaled = [&](host const& m) {
      return test::generate(5, tokens, [&](index_t i, index_t j) { return r(i, 0) * m(i, j); });
    };
    auto ratio = upload<double>(be, r), u = upload<double>(be, bax), product = upload<double>(be, wx),
         y = upload<double>(be, old);
    rescale_rows(be, ratio.view(), u.view(), product.view(), y.view());
    CHECK(test::distance(download(be, u.view()), wx + bax) < 1e-15);
    CHECK(test::distance(download(be, y.view()), old - wx + rescaled(wx + bax)) < 1e-15);
    test::upload_to<double>(be, bax, u.view());
    rescale_rows(be, ratio.view(), u.view(), read_only(product.view()), product.view());
    CHECK(test::distance(download(be, u.view()), wx + bax) < 1e-15);
    CHECK(test::distance(download(be, product.view()), rescaled(wx + bax)) < 1e-15);

    auto given = upload<double>(be, dy), scaled = upload<double>(be, host(5, tokens)),
         sum = upload<double>(be, host(5, 1));
    host const sums = test::generate(5, 1, [&](index_t i, index_t) {
      double total = 0;
      for (index_t j = 0; j < tokens; ++j) total += dy(i, j) * (wx(i, j) + bax(i, j));
      return total;
    });
    rescale_gradient(be, ratio.view(), given.view(), u.view(), scaled.view(), sum.view());
    CHECK(test::distance(download(be, sum.view()), sums) < 1e-14);
    CHECK(test::distance(download(be, scaled.view()), rescaled(dy)) < 1e-15);
    CHECK(test::distance(download(be, u.view()), wx + bax) < 1e-15);
    fill(be, sum.view(), 9);
    rescale_gradient(be, ratio.view(), given.view(), u.view(), u.view(), sum.view());
    CHECK(test::distance(download(be, sum.view()), sums) < 1e-14);
    CHECK(test::distance(download(be, u.view()), rescaled(dy)) < 1e-15);
  }
}
