#include <loraga/init/split_triplets.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("B*A is the triplets' matrix over a number, with a sign", "[init]") {
  auto be = test::make_backend();
  host const u = test::random(6, 4, 1), v = test::random(5, 4, 2);
  auto du = upload<double>(be, u), dv = upload<double>(be, v);
  auto ds = upload<double>(be, test::generate(4, 1, [](index_t i, index_t) { return 8.0 - static_cast<double>(i); }));
  svd_factors<double, test::space> const all{du.view(), ds.view(), dv.view()};
  matrix<double, test::backend> a(be, 2, 5), b(be, 6, 2);
  auto const expected = [&](index_t first, double factor) {
    std::vector<double> const s{factor * (8.0 - static_cast<double>(first)),
                                factor * (7.0 - static_cast<double>(first))};
    return test::columns(u, first, 2) * test::diagonal(2, 2, s) * test::transpose(test::columns(v, first, 2));
  };
  split_triplets(be, some_triplets(all, 0, 2), 4.0, a.view(), b.view());
  CHECK(test::distance(download(be, b.view()) * download(be, a.view()), expected(0, 0.25)) < 1e-14);
  auto cell = upload<double>(be, host(1, 1, 2));
  split_triplets(be, some_triplets(all, 2, 2), cell.view(), -1, a.view(), b.view());
  CHECK(test::distance(download(be, b.view()) * download(be, a.view()), expected(2, -0.5)) < 1e-14);
  CHECK_NOTHROW(require_rank(5, 6, 5, "here"));
  CHECK_THROWS_AS(require_rank(6, 6, 5, "here"), shape_error);
}
