#include <loraga/core/error.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("messages name function, argument, what is and what was expected", "[core]") {
  try {
    raise<shape_error>("lora::forward", "X", "3x4", "5x4");
    FAIL("nothing was thrown");
  } catch (error const& e) {
    CHECK(std::string(e.what()) == "lora::forward: X is 3x4, expected 5x4");
  }
  CHECK_NOTHROW(require_value(true, 0, "f", "x", "anything"));
  CHECK_THROWS_AS(require_value(false, -1, "f", "x", "above 0"), value_error);
}

TEST_CASE("a backend error keeps the platform's code", "[core]") {
  backend_error const e("cudaMalloc: out of memory", 2);
  CHECK(e.code == 2);
  CHECK(std::string(e.what()) == "cudaMalloc: out of memory");
}
