#include <loraga/core/config.hpp>
#include <type_traits>

#include "../support/catch.hpp"

TEST_CASE("index_t is signed and has 64 bits, the spaces are distinct types", "[core]") {
  STATIC_REQUIRE(std::is_signed_v<loraga::index_t>);
  STATIC_REQUIRE(sizeof(loraga::index_t) == 8);
  STATIC_REQUIRE(!std::is_same_v<loraga::host_space, loraga::device_space>);
}
