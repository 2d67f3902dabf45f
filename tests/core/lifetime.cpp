#include <loraga/core/lifetime.hpp>

#include "../support/catch.hpp"

using loraga::lifetime;

TEST_CASE("a lifetime ends with its object, and moves with it", "[core]") {
  std::shared_ptr<bool const> first, second;
  {
    lifetime one;
    first = one.watch();
    void const* const identity = one.identity();
    lifetime there = std::move(one);
    CHECK(there.identity() == identity);
    CHECK(*first);
    lifetime other;
    second = other.watch();
    other = std::move(there);  // what was in `other` is gone
    CHECK(!*second);
    CHECK(*first);
    CHECK(other.identity() == identity);
  }
  CHECK(!*first);
}
