#include <loraga/backend/eigen_kernels.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

TEMPLATE_TEST_CASE("thin products equal the naive one, for every layout and remainder", "[backend]", float, double) {
  cpu be(1);
  eigen::packing memory;
  for (index_t const rows : {1, 7, 64, 85, 130})
    for (index_t const columns : {1, 3, 8, 16, 17, 33, 64})
      for (index_t const depth : {1, 9, 40, 513, 1030}) {
        INFO(rows << "x" << columns << " of depth " << depth);
        host const a = test::random(rows, depth, 1), b = test::random(depth, columns, 2),
                   c = test::random(rows, columns, 3);
        host const expected = c + 0.5 * (a * b);
        for (int layout = 0; layout < 8; ++layout) {
          auto const place = [&](host const& m, bool by_rows) {
            return test::upload<TestType>(be, by_rows ? test::transpose(m) : m);
          };
          auto da = place(a, layout & 1), db = place(b, layout & 2), dc = place(c, layout & 4);
          auto const seen = [](auto& m, bool by_rows) { return by_rows ? m.view().transposed() : m.view(); };
          eigen::thin_product<TestType>::add(TestType(0.5), seen(da, layout & 1), seen(db, layout & 2),
                                             seen(dc, layout & 4), memory);
          double const error = test::distance(test::download(be, seen(dc, layout & 4)), expected);
          CHECK(error < 10 * test::tolerance<TestType> * std::sqrt(static_cast<double>(depth)));
        }
      }
}

TEST_CASE("gaps between rows or columns are left alone", "[backend]") {
  cpu be(1);
  eigen::packing memory;
  host const all = test::random(100, 40, 1);
  auto d = test::upload<float>(be, all);
  auto a = test::upload<float>(be, test::random(90, 70, 2)), b = test::upload<float>(be, test::random(70, 10, 3));
  auto const inside = d.view().row_range(3, 90).columns(5, 10);
  eigen::thin_product<float>::add(1, a.view(), b.view(), inside, memory);
  host const now = test::download(be, d.view());
  for (index_t j = 0; j < 40; ++j)
    for (index_t i = 0; i < 100; ++i) {
      bool const outside = i < 3 || i >= 93 || j < 5 || j >= 15;
      if (outside && now(i, j) != test::download(be, test::upload<float>(be, all).view())(i, j)) FAIL(i << ", " << j);
    }
  SUCCEED();
}

TEST_CASE("memory reserved for a product is enough for it", "[backend]") {
  cpu be(1);
  for (auto const& [rows, columns, depth] : {std::tuple{300, 16, 700}, {16, 300, 700}, {200, 200, 500}, {64, 64, 300}})
    for (int layout = 0; layout < 4; ++layout) {
      eigen::packing memory;
      eigen::reserve<float>(rows, columns, depth, memory);
      auto* const before = memory.at_least(1);
      matrix<float, cpu> a(be, rows, depth), at(be, depth, rows), b(be, depth, columns), bt(be, columns, depth),
          c(be, rows, columns);
      for (auto* m : {&a, &at, &b, &bt, &c}) fill(be, m->view(), 1);
      const_view<float, host_space> const left = layout & 1 ? at.view().transposed() : a.view();
      const_view<float, host_space> const right = layout & 2 ? bt.view().transposed() : b.view();
      eigen::multiply_add<float>(1, left, right, c.view(), memory);
      CHECK(memory.at_least(1) == before);
      CHECK(c.view()(rows - 1, columns - 1) == static_cast<float>(depth + 1));
    }
}
