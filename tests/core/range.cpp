#include <loraga/core/range.hpp>

#include <array>
#include <list>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

static_assert(ContiguousRange<std::vector<int>> && ContiguousRange<std::vector<int> const>);
static_assert(ContiguousRange<std::array<int, 3>> && ContiguousRange<int[3]> && ContiguousRange<std::span<int const>>);
static_assert(!ContiguousRange<std::list<int>> && !ContiguousRange<std::vector<bool>> && !ContiguousRange<int*>);
static_assert(std::is_same_v<element_of<std::vector<int> const>, int> && std::is_same_v<element_of<int const[2]>, int>);

TEST_CASE("a contiguous range's elements are seen where they lie") {
  std::vector<int> const some{1, 2, 3};
  auto const seen = elements_of(some);
  CHECK(seen.data() == some.data());
  CHECK(seen.size() == 3);
  static_assert(std::is_same_v<decltype(seen), std::span<int const> const>);
}
