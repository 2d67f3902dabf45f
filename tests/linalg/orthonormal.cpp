#include <loraga/linalg/orthonormal.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

double residual(host const& y, host const& q) {  // share of y outside span(q)
  return test::norm(y - q * (test::transpose(q) * y)) / std::max(test::norm(y), 1e-300);
}

/// A tall block whose columns have the given singular values.
host block(std::vector<double> const& sigma, index_t rows = 200) {
  return test::with_spectrum(rows, static_cast<index_t>(sigma.size()), sigma, 3);
}

template <class T>
void check_orthonormalize(host const& y) {
  auto be = test::make_backend();
  auto d = upload<T>(be, y);
  host const given = download(be, d.view());
  orthonormalize(be, d.view(), {1, 2});
  host const q = download(be, d.view());
  double const unit = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  CHECK(test::orthonormality(q) < 5 * unit);
  if (test::norm(given) > 0) CHECK(residual(given, q) < 10 * unit);
}

}  // namespace

TEMPLATE_TEST_CASE("orthonormalize copes with every finite block", "[linalg]", float, double) {
  check_orthonormalize<TestType>(test::random(200, 20, 1));
  check_orthonormalize<TestType>(block(test::geometric(20, 0.7)));
  check_orthonormalize<TestType>(block(test::geometric(20, 0.3)));                          // condition 1e10
  check_orthonormalize<TestType>(block(test::geometric(20, 0.1)));                          // condition 1e19
  check_orthonormalize<TestType>(block(test::geometric(5, 0.5)) * test::random(5, 20, 4));  // rank 5 of 20
  check_orthonormalize<TestType>(host(50, 4, 0.0));
  check_orthonormalize<TestType>(host(50, 4, 1.0));
  check_orthonormalize<TestType>(test::random(6, 6, 2));
  check_orthonormalize<TestType>(test::random(1, 1, 2));
  for (double const scale : {1e-22, 1e-35, 1e18, 1e30}) check_orthonormalize<TestType>(scale * test::random(100, 8, 5));
}

TEST_CASE("columns keep their order where the block has full rank", "[linalg]") {
  auto be = test::make_backend();
  host const y = test::random(100, 6, 1);
  auto d = upload<double>(be, y);
  orthonormalize(be, d.view(), {1, 2});
  host const r = test::transpose(download(be, d.view())) * y;
  for (index_t j = 0; j < 6; ++j) {
    CHECK(r(j, j) > 0);
    for (index_t i = j + 1; i < 6; ++i) CHECK(std::abs(r(i, j)) < 1e-12);
  }
}

TEST_CASE("CholeskyQR2 says where it cannot go; column by column that goes, in order", "[linalg]") {
  auto be = test::make_backend();
  auto easy = upload<double>(be, block(test::geometric(10, 0.3)));
  CHECK(try_cholesky_qr2(be, easy.view()));
  CHECK(test::orthonormality(download(be, easy.view())) < 1e-14);
  host const hard = block(test::geometric(10, 0.04));
  auto one = upload<double>(be, hard), two = upload<double>(be, hard);
  CHECK(!try_cholesky_qr2(be, one.view()));
  orthonormalize_columns(be, two.view(), 0, {1, 2});
  host const q = download(be, two.view()), r = test::transpose(q) * hard;
  CHECK(test::orthonormality(q) < 1e-14);
  CHECK(residual(hard, q) < 1e-13);
  for (index_t j = 0; j < 10; ++j)
    for (index_t i = j + 1; i < 10; ++i) CHECK(std::abs(r(i, j)) < 1e-13);
}

TEST_CASE("a column in which only rounding is left gives way to a random one", "[linalg]") {
  auto be = test::make_backend();
  // what is left of column 3 after columns 0 to 2 is rounding, and lies where they do: in rows 0 to 9
  host y = test::random(60, 5, 7);
  for (index_t j = 0; j < 5; ++j)
    for (index_t i = 10; i < 60; ++i) y(i, j) = 0;
  for (index_t i = 0; i < 60; ++i) y(i, 3) = 0.3 * y(i, 0) - 2 * y(i, 1) + y(i, 2);
  auto d = upload<float>(be, y);
  orthonormalize_columns(be, d.view(), 0, {1, 2});
  host const q = download(be, d.view());
  CHECK(test::orthonormality(q) < 1e-6);
  CHECK(residual(y, q) < 1e-6);
  CHECK(test::norm(test::rows(test::columns(q, 3, 1), 10, 50)) > 0.5);  // random: most of it where nothing was
}

TEST_CASE("columns are added to orthonormal ones, which stay", "[linalg]") {
  auto be = test::make_backend();
  host y = test::random(30, 9, 3);
  auto const first = test::orthonormal(30, 4, 5);
  for (index_t j = 0; j < 4; ++j)
    for (index_t i = 0; i < 30; ++i) y(i, j) = first(i, j), y(i, j + 5) = 1e-3 * y(i, j + 5) + first(i, j);
  auto d = upload<double>(be, y);
  orthonormalize_columns(be, d.view(), 4, {1, 2});
  host const q = download(be, d.view());
  CHECK(test::orthonormality(q) < 1e-14);
  CHECK(test::distance(test::columns(q, 0, 4), first) == 0);
  CHECK(residual(y, q) < 1e-13);
}

TEMPLATE_TEST_CASE("small sides and dependent columns, of any seed", "[linalg]", float, double) {
  // Random signs in so few rows are often dependent themselves.
  auto be = test::make_backend();
  double const unit = std::is_same_v<TestType, float> ? 1e-6 : 1e-14;
  for (index_t const n : {1, 2, 3, 4, 6})
    for (std::uint64_t seed = 0; seed < 16; ++seed) {
      host const flat = test::generate(n, n, [](index_t i, index_t) { return 1.0 + static_cast<double>(i); });
      auto d = upload<TestType>(be, flat);
      orthonormalize(be, d.view(), {seed, 2});
      host const q = download(be, d.view());
      CHECK(test::orthonormality(q) < unit);
      CHECK(residual(test::columns(flat, 0, 1), test::columns(q, 0, 1)) <
            unit);  // the first column keeps its direction
    }
}

TEST_CASE("errors do not grow from column to column", "[linalg]") {
  // Columns that lose half of their length to those before: one removal each would double the error every time.
  auto be = test::make_backend();
  host const common = test::random(200, 1, 1);
  host y = test::random(200, 60, 2);
  for (index_t j = 0; j < 60; ++j)
    for (index_t i = 0; i < 200; ++i) y(i, j) = 1e-3 * y(i, j) + common(i, 0);
  auto d = upload<float>(be, y);
  orthonormalize_columns(be, d.view(), 0, {1, 2});
  CHECK(test::orthonormality(download(be, d.view())) < 1e-6);
}

TEST_CASE("an optimistic batch flags what broke down and leaves the others right", "[linalg]") {
  auto be = test::make_backend();
  slab<float, test::backend> y(be, 3, 80, 5);
  slab<int, test::backend> flags(be, 3, 1, 1);
  fill(be, flags.view().side_by_side(), 0);
  test::upload_to<float>(be, test::random(80, 5, 1), y.view()[0]);
  test::upload_to<float>(be, host(80, 5, 1.0), y.view()[1]);
  test::upload_to<float>(be, test::random(80, 5, 2), y.view()[2]);
  cholesky_qr2(be, y.view(), flags.view());
  auto const found = read_all(be, flags.view().side_by_side());
  CHECK(found == std::vector<int>{0, svd_ill_conditioned, 0});
  CHECK(test::orthonormality(download(be, y.view()[0])) < 1e-6);
  CHECK(test::orthonormality(download(be, y.view()[2])) < 1e-6);
}

TEST_CASE("NaN, infinity and wide blocks are refused by name", "[linalg]") {
  auto be = test::make_backend();
  host y = test::random(10, 3, 1);
  y(4, 1) = NAN;
  auto d = upload<float>(be, y);
  CHECK_THROWS_AS(orthonormalize(be, d.view(), {}), numeric_error);
  y(4, 1) = INFINITY;
  auto e = upload<float>(be, y);
  CHECK_THROWS_AS(orthonormalize(be, e.view(), {}), numeric_error);
  auto wide = upload<float>(be, test::random(3, 4, 1));
  CHECK_THROWS_AS(orthonormalize(be, wide.view(), {}), shape_error);
}
