#include <cstdint>
#include <loraga/backend/packing.hpp>

#include "../support/catch.hpp"

TEST_CASE("packing memory only grows, and is aligned", "[backend]") {
  loraga::eigen::packing memory;
  auto* const first = memory.at_least(1000);
  CHECK(memory.at_least(10) == first);
  CHECK(memory.at_least(1000) == first);
  auto* const more = memory.at_least(100000);
  CHECK(reinterpret_cast<std::uintptr_t>(more) % 64 == 0);
  CHECK(memory.at_least(50000) == more);
}
