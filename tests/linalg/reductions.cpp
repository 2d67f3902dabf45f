#include <loraga/linalg/reductions.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;
using test::upload;

TEST_CASE("dots and norms are double sums in any layout", "[linalg]") {
  auto be = test::make_backend();
  host const x = test::random(9001, 3, 1), y = test::random(9001, 3, 2);
  auto dx = upload<float>(be, x), dy = upload<float>(be, y);
  host const hx = test::download(be, dx.view()), hy = test::download(be, dy.view());
  matrix<double, test::backend> d(be, 3, 1), one(be, 1, 1);
  column_dots(be, dx.view(), dy.view(), d.view());
  host const each = test::transpose(hx) * hy;
  for (index_t j = 0; j < 3; ++j) CHECK(test::download(be, d.view())(j, 0) == Approx(each(j, j)).epsilon(1e-13));
  dot(be, dx.view().transposed(), dy.view().transposed(), one.view());
  CHECK(read_scalar(be, one.view()) == Approx(test::inner(hx, hy)).epsilon(1e-13));
  host sizes = test::generate(9001, 3, [&](index_t i, index_t j) { return std::abs(hx(i, j) * hy(i, j)); });
  for (bool const turned : {false, true}) {
    if (turned) abs_dot(be, dx.view().transposed(), dy.view().transposed(), one.view());
    else abs_dot(be, dx.view(), dy.view(), one.view());
    CHECK(read_scalar(be, one.view()) == Approx(test::inner(sizes, host(9001, 3, 1))).epsilon(1e-13));
  }
  CHECK_THROWS_AS(abs_dot(be, dx.view(), dy.view().columns(0, 2), one.view()), shape_error);
  sum_of_squares(be, dx.view(), one.view());
  CHECK(read_scalar(be, one.view()) == Approx(test::inner(hx, hx)).epsilon(1e-13));
  CHECK_THROWS_AS(column_dots(be, dx.view(), dy.view().columns(0, 2), d.view()), shape_error);
}

TEST_CASE("max_abs finds extremes and does not hide NaN", "[linalg]") {
  auto be = test::make_backend();
  host x = test::random(100, 7, 1);
  x(99, 6) = -50;
  matrix<double, test::backend> one(be, 1, 1);
  max_abs(be, upload<float>(be, x).view(), one.view());
  CHECK(read_scalar(be, one.view()) == 50);
  for (index_t const at : {index_t{0}, index_t{55}, index_t{99}}) {
    host n = x;
    n(at, 3) = NAN;
    max_abs(be, upload<float>(be, n).view(), one.view());
    CHECK(std::isnan(read_scalar(be, one.view())));
  }
  max_abs(be, upload<bf16>(be, host(1, 1, -2)).view(), one.view());
  CHECK(read_scalar(be, one.view()) == 2);
}

TEST_CASE("a norm of one bad entry is not finite", "[linalg]") {
  auto be = test::make_backend();
  matrix<double, test::backend> one(be, 1, 1);
  for (double const bad : {NAN, INFINITY, -INFINITY}) {
    host x = test::random(5000, 2, 1);
    x(4999, 1) = bad;
    sum_of_squares(be, upload<float>(be, x).view(), one.view());
    CHECK(!std::isfinite(read_scalar(be, one.view())));
  }
}

TEST_CASE("only one number can be read as one", "[linalg]") {
  auto be = test::make_backend();
  CHECK_THROWS_AS(read_scalar(be, upload<float>(be, host(2, 1)).view()), shape_error);
}
