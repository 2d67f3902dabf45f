#include <loraga/optim/schedule.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("warm-up rises to 1, half a cosine falls to the floor", "[optim]") {
  cosine_schedule const s{.total = 100, .warmup = 4, .floor = 0.1};
  CHECK(s.factor(0) == 0.25);
  CHECK(s.factor(3) == 1);
  CHECK(s.factor(4) == 1);
  CHECK(s.factor(52) == Approx(0.55));
  CHECK(s.factor(100) == 0.1);
  CHECK(s.factor(1000) == 0.1);
  for (index_t t = 4; t < 100; ++t) CHECK(s.factor(t + 1) < s.factor(t));
  CHECK(cosine_schedule{.total = 10}.factor(0) == 1);
  CHECK(cosine_schedule{.total = 5, .warmup = 5}.factor(5) == 0);
  CHECK(constant_schedule{}.factor(12345) == 1);
}

TEST_CASE("schedules refuse impossible settings", "[optim]") {
  CHECK_THROWS_AS((cosine_schedule{.total = 0}.check()), value_error);
  CHECK_THROWS_AS((cosine_schedule{.total = 5, .warmup = 6}.check()), value_error);
  CHECK_THROWS_AS((cosine_schedule{.total = 5, .warmup = -1}.check()), value_error);
  CHECK_THROWS_AS((cosine_schedule{.total = 5, .floor = 2}.check()), value_error);
  CHECK_NOTHROW((cosine_schedule{.total = 5, .warmup = 5}.check()));
}
