#include <limits>
#include <loraga/backend/multiply.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

namespace {

/// c = 0.5*a*b + beta*c for every layout of the three, against sums in double.
template <class T>
void try_layouts(index_t rows, index_t columns, index_t depth, double beta) {
  INFO(rows << "x" << columns << " of depth " << depth << ", beta " << beta);
  cpu be(1);
  eigen::packing memory;
  host const a = test::random(rows, depth, 1), b = test::random(depth, columns, 2), c = test::random(rows, columns, 3);
  host const expected = beta * c + 0.5 * (a * b);
  for (int layout = 0; layout < 8; ++layout) {
    auto const place = [&](host const& m, bool by_rows) {
      return test::upload<T>(be, by_rows ? test::transpose(m) : m);
    };
    auto da = place(a, layout & 1), db = place(b, layout & 2), dc = place(c, layout & 4);
    auto const seen = [](auto& m, bool by_rows) { return by_rows ? m.view().transposed() : m.view(); };
    if (beta == 0) fill(be, dc.view(), std::numeric_limits<double>::quiet_NaN());
    eigen::multiply<T>(T(0.5), seen(da, layout & 1), seen(db, layout & 2), static_cast<T>(beta), seen(dc, layout & 4),
                       memory);
    double const error = test::distance(test::download(be, seen(dc, layout & 4)), expected);
    CHECK(error < 10 * test::tolerance<T> * std::sqrt(1.0 + static_cast<double>(depth)));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("products equal the naive one, for every layout and remainder", "[backend]", float, double) {
  for (index_t const rows : {1, 7, 64, 85, 130})
    for (index_t const columns : {1, 3, 8, 16, 17, 33, 64})
      for (index_t const depth : {1, 9, 40, 513}) try_layouts<TestType>(rows, columns, depth, 1);
  for (auto const& [rows, columns, depth] :
       {std::tuple{600, 20, 1100}, {20, 600, 1100}, {260, 200, 300}, {50, 49, 600}})
    for (double const beta : {0.0, 1.0, -0.25}) try_layouts<TestType>(rows, columns, depth, beta);
}

TEMPLATE_TEST_CASE("a product without terms is beta times what was there", "[backend]", float, double) {
  for (double const beta : {0.0, 1.0, 0.5}) try_layouts<TestType>(5, 4, 0, beta);
}

TEST_CASE("a single row may have any strides", "[backend]") {
  eigen::packing memory;
  std::vector<float> a{2, 3}, b(1000), c(200);
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i);
  matrix_view<float, host_space> const column(a.data(), 2, 1, 1, 2), row(b.data(), 1, 100, 900, 9);
  for (auto const& [row_stride, col_stride] : {std::pair{1, 2}, {100, 1}}) {
    matrix_view<float, host_space> const result(c.data(), 2, 100, row_stride, col_stride);
    eigen::multiply<float>(1, column, row, 0, result, memory);
    for (index_t j = 0; j < 100; ++j)
      for (index_t i = 0; i < 2; ++i)
        if (result(i, j) != a[static_cast<std::size_t>(i)] * static_cast<float>(9 * j)) FAIL(i << ", " << j);
    eigen::multiply<float>(1, row.transposed(), column.transposed(), 0, result.transposed(), memory);
    for (index_t j = 0; j < 100; ++j) CHECK(result(1, j) == 3 * static_cast<float>(9 * j));
  }
}

TEST_CASE("the lower part of a symmetric product is its lower triangle at least", "[backend]") {
  cpu be(1);
  eigen::packing memory;
  for (index_t const n : {1, 16, 49, 130, 200}) {
    host const y = test::random(300, n, 4), expected = test::transpose(y) * y;
    auto d = test::upload<double>(be, y), s = test::upload<double>(be, test::random(n, n, 5));
    eigen::multiply<double>(1, d.view().transposed(), d.view(), 0, s.view(), memory, eigen::wanted::lower);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = j; i < n; ++i)
        if (std::abs(s.view()(i, j) - expected(i, j)) > 1e-11) FAIL(n << ": " << i << ", " << j);
  }
  SUCCEED();
}

TEST_CASE("gaps between rows or columns are left alone", "[backend]") {
  cpu be(1);
  eigen::packing memory;
  host const all = test::random(100, 40, 1);
  auto d = test::upload<float>(be, all);
  auto a = test::upload<float>(be, test::random(90, 70, 2)), b = test::upload<float>(be, test::random(70, 10, 3));
  auto const inside = d.view().row_range(3, 90).columns(5, 10);
  eigen::multiply<float>(1, a.view(), b.view(), 1, inside, memory);
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
      eigen::multiply<float>(1, left, right, 1, c.view(), memory);
      CHECK(memory.at_least(1) == before);
      CHECK(c.view()(rows - 1, columns - 1) == static_cast<float>(depth + 1));
    }
}
