#include <loraga/backend/thrust_view.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("a Thrust vector is a matrix", "[cuda]") {
  auto be = test::make_backend();
  thrust::device_vector<float> v(12, 2.0f);
  auto const m = view(v, 4, 3);
  fill(be, m.columns(1, 1), 5);
  be.synchronize();
  std::vector<float> host(12);
  thrust::copy(v.begin(), v.end(), host.begin());
  CHECK(host[3] == 2);
  CHECK(host[4] == 5);
  thrust::device_vector<float> const& constant = v;
  matrix<float, test::backend> copied(be, 4, 3);
  be.copy(view(constant, 4, 3), copied.view());
  CHECK(test::download(be, copied.view())(0, 1) == 5);
  CHECK_THROWS_AS(view(v, 4, 4), shape_error);
}
