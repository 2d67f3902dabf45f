#include <loraga/core/factors.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("a result holds k triplets of every matrix of its batch", "[core]") {
  auto be = test::make_backend();
  svd_result<float, test::backend> r(be, 3, 6, 4, 2);
  CHECK(r.count() == 3);
  CHECK(r.triplets() == 2);
  CHECK(r[2].u.rows == 6);
  CHECK(r[2].u.cols == 2);
  CHECK(r[2].s.rows == 2);
  CHECK(r[2].v.rows == 4);
  CHECK(r.flags == std::vector<int>{0, 0, 0});
}

TEST_CASE("flags have names", "[core]") {
  CHECK(describe_flags(svd_usable) == "usable");
  CHECK(describe_flags(svd_zero) == "zero");
  CHECK(describe_flags(svd_not_finite | svd_zero) == "not finite (NaN or infinity)");
  CHECK(describe_flags(svd_not_converged).find("converge") != std::string::npos);
}
