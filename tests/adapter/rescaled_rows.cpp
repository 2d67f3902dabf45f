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

TEST_CASE("DoRA over all tokens at once: one sweep forward, one backward, and the rows' gradients", "[adapter]") {
  auto be = test::make_backend();
  for (index_t const tokens : {1, 7, 40, 2500}) {
    CAPTURE(tokens);
    host const r = test::random(5, 1, 1), v = test::random(5, tokens, 2), wx = test::random(5, tokens, 3),
               old = test::random(5, tokens, 4), dy = test::random(5, tokens, 5);
    auto const rescaled = [&](host const& m) {
      return test::generate(5, tokens, [&](index_t i, index_t j) { return r(i, 0) * m(i, j); });
    };
    auto ratio = upload<double>(be, r), dv = upload<double>(be, v), product = upload<double>(be, wx),
         y = upload<double>(be, old), kept = upload<double>(be, host(5, tokens));
    rescale_product(be, ratio.view(), dv.view(), product.view(), product.view(), y.view());  // kept where it is
    CHECK(test::distance(download(be, y.view()), old - wx + rescaled(wx + v)) < 1e-14);
    CHECK(test::distance(download(be, product.view()), wx) == 0);
    test::upload_to<double>(be, old, y.view());
    rescale_product(be, ratio.view(), dv.view(), read_only(product.view()), kept.view(), y.view());
    CHECK(test::distance(download(be, y.view()), old - wx + rescaled(wx + v)) < 1e-14);
    CHECK(test::distance(download(be, kept.view()), wx) == 0);
    fill(be, kept.view(), 0);
    rescale_product(be, ratio.view(), dv.view(), read_only(product.view()), kept.view(), product.view());  // in place
    CHECK(test::distance(download(be, product.view()), rescaled(wx + v)) < 1e-14);
    CHECK(test::distance(download(be, kept.view()), wx) == 0);

    auto given = upload<double>(be, dy), part = upload<double>(be, host(5, gradient_runs(tokens)));
    rescale_gradient_by_runs(be, ratio.view(), given.view(), kept.view(), kept.view(), part.view());
    CHECK(test::distance(download(be, kept.view()), rescaled(dy)) == 0);
    host const parts = download(be, part.view());
    for (index_t i = 0; i < 5; ++i) {
      double sum = 0, right = 0;
      for (index_t p = 0; p < parts.cols; ++p) sum += parts(i, p);
      for (index_t j = 0; j < tokens; ++j) right += dy(i, j) * wx(i, j);
      CHECK(sum == Approx(right).margin(1e-12));
    }
  }
}

TEST_CASE("DoRA's gradients of g and B from sums by runs, where N is 0 and g is 0, too", "[adapter]") {
  auto be = test::make_backend();
  host const part = test::random(4, 3, 1), left = test::random(4, 4, 2), d = test::random(4, 4, 3),
             ratio = test::generate(4, 1, [](index_t i, index_t) { return i == 1 ? 0 : 1.5; }),
             norm = test::generate(4, 1, [](index_t i, index_t) { return i == 2 ? 0 : 2; });
  auto dpart = upload<double>(be, part), dleft = upload<double>(be, left), dd = upload<double>(be, d),
       dratio = upload<double>(be, ratio), dnorm = upload<double>(be, norm), dg = upload<double>(be, host(4, 1, 1.0)),
       db = upload<double>(be, host(4, 2, 1.0));
  using view = test::view<double>;
  be.for_each(4, 3,
              detail::gradients_of_rows<view, view, view, view, view, view>{
                  dpart.view(), dleft.view(), dd.view(), dratio.view(), dnorm.view(), dg.view(), db.view()});
  host const g = download(be, dg.view()), b = download(be, db.view());
  for (index_t i = 0; i < 4; ++i) {
    double sum = 0;
    for (index_t p = 0; p < 3; ++p) sum += part(i, p);
    for (index_t k = 0; k < 4; ++k) sum += left(i, k) * d(i, k);
    CHECK(g(i, 0) == Approx(i == 2 ? 1 : 1 + sum / 2));
    for (index_t k = 0; k < 2; ++k) CHECK(b(i, k) == Approx(1 + ratio(i, 0) * d(i, k)));
  }
}
