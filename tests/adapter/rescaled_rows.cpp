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
