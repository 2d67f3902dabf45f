#include <loraga/optim/clip.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;

TEST_CASE("gradients are clipped by their joint norm, which is kept", "[optim]") {
  auto be = test::make_backend();
  host const a = test::random(30, 1, 1), b = test::random(20, 4, 2);
  double const norm = std::hypot(test::norm(a), test::norm(b));
  matrix<double, test::backend> seen(be, 1, 1);
  for (double const limit : {norm / 4, norm * 2}) {
    auto da = test::upload<float>(be, a), db = test::upload<float>(be, b);
    test::view<float> const both[] = {da.view(), db.view()};
    clip_gradients(be, both, limit, seen.view());
    CHECK(read_scalar(be, seen.view()) == Approx(norm).epsilon(1e-6));
    double const factor = std::min(1.0, limit / norm);
    CHECK(test::distance(test::download(be, da.view()), factor * a) < 1e-6);
    CHECK(test::distance(test::download(be, db.view()), factor * b) < 1e-6);
  }
  auto da = test::upload<float>(be, a);
  test::view<float> const one[] = {da.view()};
  CHECK_THROWS_AS(clip_gradients(be, one, 0.0, seen.view()), value_error);
  CHECK_THROWS_AS(clip_gradients(be, std::vector(1, one[0]), 1.0, test::view<double>{}), shape_error);
  clip_gradients(be, std::span<test::view<float> const>(), 1.0, seen.view());
  CHECK(read_scalar(be, seen.view()) == 0);
}
