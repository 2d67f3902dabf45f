#include <loraga/linalg/elementwise.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("axpby in any layout and type", "[linalg]") {
  auto be = test::make_backend();
  host const x = test::random(7, 5, 1), y = test::random(7, 5, 2);
  auto dx = upload<float>(be, x), dy = upload<float>(be, y);
  axpby(be, 2.0, dx.view(), -3.0, dy.view());
  CHECK(test::distance(download(be, dy.view()), 2.0 * x - 3.0 * y) < 1e-6);
  auto dt = upload<float>(be, test::transpose(y));
  axpby(be, 2.0, dx.view(), -3.0, dt.view().transposed());
  CHECK(test::distance(download(be, dt.view().transposed()), download(be, dy.view())) == 0);
  auto nan = upload<float>(be, host(7, 5, NAN));
  axpby(be, 1.0, dx.view(), 0.0, nan.view());
  CHECK(test::distance(download(be, nan.view()), download(be, dx.view())) == 0);
  auto dd = upload<double>(be, y);
  axpby(be, 0.1, upload<double>(be, x).view(), 1.0, dd.view());
  CHECK(test::distance(download(be, dd.view()), y + 0.1 * x) < 1e-15);
  CHECK_THROWS_AS(axpby(be, 1.0, dt.view(), 0.0, dy.view()), shape_error);
}

TEST_CASE("16-bit results are rounded once from float", "[linalg]") {
  auto be = test::make_backend();
  auto x = upload<float>(be, host(1, 1, 1.0 / 512)), y = upload<float>(be, host(1, 1, 0));
  auto b = upload<bf16>(be, host(1, 1, 1.0));
  axpby(be, 1.0, x.view(), 1.0, b.view());
  CHECK(download(be, b.view())(0, 0) == 1.0);  // 1 + 2^-9 rounds to 1 in bf16
  axpby(be, 3.0, x.view(), 1.0, b.view());
  CHECK(download(be, b.view())(0, 0) == 1.0078125);  // 1 + 3*2^-9 to 1 + 2^-7
  convert(be, b.view(), y.view());
  CHECK(download(be, y.view())(0, 0) == 1.0078125);
}

TEST_CASE("fill, convert and scale_columns", "[linalg]") {
  auto be = test::make_backend();
  host const x = test::random(4, 3, 1), d = test::random(3, 1, 2);
  auto dx = upload<float>(be, x);
  auto half_x = upload<fp16>(be, host(4, 3));
  convert(be, dx.view(), half_x.view());
  CHECK(test::distance(download(be, half_x.view()), x) < 1e-3 * (1 + test::largest(x)));
  scale_columns(be, upload<float>(be, d).view(), dx.view());
  CHECK(test::distance(download(be, dx.view()), x * test::diagonal(3, 3, d.data)) < 1e-6);
  CHECK_THROWS_AS(scale_columns(be, dx.view(), dx.view()), shape_error);
  fill(be, dx.view().transposed(), 2.5);
  CHECK(test::distance(download(be, dx.view()), host(4, 3, 2.5)) == 0);
}
