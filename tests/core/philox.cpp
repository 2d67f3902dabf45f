#include <loraga/core/philox.hpp>
#include <set>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("Philox4x32-10 gives its published answers", "[core]") {
  auto const zero = philox(0, 0, 0);
  CHECK(zero.word[0] == 0x6627e8d5u);
  CHECK(zero.word[1] == 0xe169c58du);
  CHECK(zero.word[2] == 0xbc57ac4cu);
  CHECK(zero.word[3] == 0x9b00dbd8u);
  auto const ones = philox(~0ull, ~0ull, ~0ull);  // Random123's kat_vectors
  CHECK(ones.word[0] == 0x408f276du);
  CHECK(ones.word[1] == 0x41c83b0eu);
  CHECK(ones.word[2] == 0xa20bc7c6u);
  CHECK(ones.word[3] == 0x6d5451fdu);
  auto const pi = philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull);
  CHECK(pi.word[0] == 0xd16cfe09u);
  CHECK(pi.word[1] == 0x94fdcceb);
  CHECK(pi.word[2] == 0x5001e420u);
  CHECK(pi.word[3] == 0x24126ea1u);
}

TEST_CASE("uniforms and normals have their moments", "[core]") {
  int const n = 200000;
  double sum = 0, square = 0, uniform = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    double const u = random_uniform({7, 3}, static_cast<std::uint64_t>(i));
    REQUIRE(u >= 0);
    REQUIRE(u < 1);
    uniform += u;
    double const z = random_normal({7, 3}, static_cast<std::uint64_t>(i));
    sum += z;
    square += z * z;
    fourth += z * z * z * z;
  }
  CHECK(std::abs(uniform / n - 0.5) < 0.005);
  CHECK(std::abs(sum / n) < 0.01);
  CHECK(std::abs(square / n - 1) < 0.02);
  CHECK(std::abs(fourth / n - 3) < 0.15);
}

TEST_CASE("streams differ in seed, id and purpose", "[core]") {
  std::set<std::uint32_t> seen;
  for (std::uint64_t seed = 0; seed < 4; ++seed)
    for (std::uint64_t id = 0; id < 4; ++id) {
      seen.insert(random_bits({seed, id}, 0).word[0]);
      for (std::uint64_t purpose = 0; purpose < 4; ++purpose)
        seen.insert(random_bits(derive({seed, id}, purpose), 0).word[0]);
    }
  CHECK(seen.size() == 4 * 4 * 5);
}
