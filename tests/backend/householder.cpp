#include <loraga/backend/householder.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

namespace {

host q_of(host const& y) {
  auto be = test::make_backend();
  auto d = test::upload<double>(be, y);
  be.householder(d.view());
  return test::download(be, d.view());
}

}  // namespace

TEST_CASE("Householder's Q spans y and is complete whatever y's rank", "[backend]") {
  host const y = test::random(30, 6, 1);
  host const q = q_of(y);
  CHECK(test::orthonormality(q) < 1e-13);
  CHECK(test::norm(y - q * (test::transpose(q) * y)) < 1e-12);
  host deficient = y;
  for (index_t i = 0; i < 30; ++i) deficient(i, 2) = deficient(i, 0), deficient(i, 4) = 0;
  host const qd = q_of(deficient);
  CHECK(test::orthonormality(qd) < 1e-13);
  CHECK(test::norm(deficient - qd * (test::transpose(qd) * deficient)) < 1e-12);
  CHECK(test::orthonormality(q_of(host(7, 3, 0.0))) < 1e-13);
  CHECK(test::orthonormality(q_of(1e-200 * y)) < 1e-13);
  CHECK(test::orthonormality(q_of(1e200 * y)) < 1e-13);
  CHECK(test::orthonormality(q_of(test::random(4, 4, 2))) < 1e-13);
}

TEST_CASE("more columns than rows are refused", "[backend]") {
  CHECK_THROWS_AS(q_of(test::random(3, 4, 1)), shape_error);
}
