#include <loraga/linalg/scatter.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {}  // namespace

TEST_CASE("columns are gathered and added up by ids", "[linalg]") {
  auto be = test::make_backend();
  index_t const columns = 9;
  host const x = test::random(4, columns, 1), start = test::random(4, columns, 2);
  auto dx = upload<double>(be, x);
  // one token, powers of two and what lies between, one id for all, hardly any twice
  for (index_t const tokens : {0, 1, 2, 3, 7, 8, 33, 300})
    for (index_t const different : {index_t{1}, index_t{5}, columns}) {
      std::vector<std::int32_t> ids;
      for (index_t t = 0; t < tokens; ++t) ids.push_back(static_cast<std::int32_t>((t * t + 3 * t + 2) % different));
      host const values = test::random(4, tokens, 3);
      host picked(4, tokens), sums = start;
      for (index_t t = 0; t < tokens; ++t)
        for (index_t i = 0; i < 4; ++i) {
          picked(i, t) = x(i, ids[static_cast<std::size_t>(t)]);
          sums(i, ids[static_cast<std::size_t>(t)]) += values(i, t);
        }
      auto d_ids = test::upload_ids(be, ids);
      auto d_values = upload<double>(be, values), y = upload<double>(be, start);
      matrix<double, test::backend> gathered(be, 4, tokens);
      require_ids(be, d_ids.view(), columns, "f");
      gather_columns(be, dx.view(), d_ids.view(), gathered.view());
      CHECK(test::distance(download(be, gathered.view()), picked) == 0);
      add_columns(be, d_values.view(), d_ids.view(), y.view());
      CHECK(test::distance(download(be, y.view()), sums) < 1e-12);
    }
}

TEST_CASE("a column's sum has the order of tokens, whatever the threads, and keeps small terms", "[linalg]") {
  auto be = test::make_backend(1), wide = test::make_backend(3);
  std::vector<index_t> const ids(20000, 2);
  host values = test::random(3, 20000, 5, 1e-4);
  values(0, 0) = 4096;
  auto const run = [&](test::backend& on) {
    auto d_ids = test::upload_ids(on, ids);
    auto x = upload<float>(on, values), y = upload<float>(on, host(3, 4));
    add_columns(on, x.view(), d_ids.view(), y.view());
    return download(on, y.view());
  };
  host const sums = run(be);
  CHECK(test::distance(run(wide), sums) == 0);
  double expected = 0;
  for (index_t t = 0; t < 20000; ++t) expected += static_cast<float>(values(0, t));
  CHECK(sums(0, 2) == static_cast<float>(expected));
}

TEST_CASE("unknown ids are refused by name; unchecked they touch nothing", "[linalg]") {
  auto be = test::make_backend();
  auto ids = test::upload_ids<index_t>(be, {1, 0, 3, -1, 1, index_t{1} << 40});
  auto x = upload<float>(be, test::random(2, 3, 1)), y = upload<float>(be, host(2, 6));
  CHECK_THROWS_WITH(require_ids(be, ids.view(), 3, "f"), "f: ids(0, 2) is 3, expected 0 ... 2");
  CHECK_THROWS_WITH(require_ids(be, ids.view(), 4, "f"), "f: ids(0, 3) is -1, expected 0 ... 3");
  CHECK_THROWS_AS(require_ids(be, ids.view().transposed(), 3, "f"), shape_error);
  CHECK_NOTHROW(require_ids(be, ids.view().columns(0, 2), 3, "f"));
  gather_columns(be, x.view(), ids.view(), y.view());
  host const picked = download(be, y.view()), source = download(be, x.view());
  CHECK(picked(1, 0) == source(1, 1));
  CHECK(std::isnan(picked(0, 2)));
  CHECK(std::isnan(picked(0, 3)));
  CHECK(std::isnan(picked(1, 5)));
  fill(be, y.view(), 1);
  add_columns(be, y.view(), ids.view(), x.view());
  host expected = source;
  for (index_t i = 0; i < 2; ++i) {
    expected(i, 0) += 1;
    expected(i, 1) += 2;
  }
  CHECK(test::distance(download(be, x.view()), expected) < 1e-6);
  CHECK_THROWS_AS(add_columns(be, y.view(), ids.view().columns(0, 5), x.view()), shape_error);
  CHECK_THROWS_AS(gather_columns(be, x.view(), ids.view().columns(0, 5), y.view()), shape_error);
}
