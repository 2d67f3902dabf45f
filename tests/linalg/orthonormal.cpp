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

TEST_CASE("each rung of the chain does what the one before it cannot", "[linalg]") {
  auto be = test::make_backend();
  // 1: CholeskyQR2 up to a condition number of about 1e7
  auto easy = upload<double>(be, block(test::geometric(10, 0.3)));
  CHECK(try_cholesky_qr2(be, easy.view()));
  CHECK(test::orthonormality(download(be, easy.view())) < 1e-14);
  // 2: with a shift and a third pass up to about 1e15
  host const hard = block(test::geometric(10, 0.04));
  auto one = upload<double>(be, hard), two = upload<double>(be, hard);
  CHECK(!try_cholesky_qr2(be, one.view()));
  CHECK(shifted_cholesky_qr3(be, two.view()));
  CHECK(test::orthonormality(download(be, two.view())) < 1e-14);
  CHECK(residual(hard, download(be, two.view())) < 1e-13);
  // 3: SVQB where columns are missing altogether
  host missing = test::random(100, 10, 7);
  for (index_t i = 0; i < 100; ++i) missing(i, 9) = 0;
  auto three = upload<float>(be, missing), four = upload<float>(be, missing);
  host const given = download(be, four.view());
  CHECK(!try_cholesky_qr2(be, three.view()));
  CHECK(!shifted_cholesky_qr3(be, three.view()));
  CHECK(svqb(be, four.view(), {1, 2}));
  CHECK(test::orthonormality(download(be, four.view())) < 1e-6);
  CHECK(residual(given, download(be, four.view())) < 1e-6);
  // 4: Householder where even completion by random columns fails: +-1 columns of two rows can coincide
  int fell_through = 0;
  for (std::uint64_t seed = 0; seed < 32; ++seed) {
    host const flat = test::generate(2, 2, [](index_t, index_t j) { return j == 0 ? 1.0 : 0.0; });
    auto five = upload<float>(be, flat), six = upload<float>(be, flat);
    fell_through += !svqb(be, five.view(), {seed, 2});
    orthonormalize(be, six.view(), {seed, 2});
    CHECK(test::orthonormality(download(be, six.view())) < 1e-6);
    CHECK(residual(flat, download(be, six.view())) < 1e-6);
  }
  CHECK(fell_through > 0);
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
