#include <cstdint>
#include <loraga/backend/pages.hpp>
#include <loraga/cpu.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("large memory begins on a large page, small memory on a cache line", "[backend]") {
  cpu be(1);
  auto const large = be.allocate<float>(index_t{1} << 21);
  CHECK(reinterpret_cast<std::uintptr_t>(large.get()) % large_page == 0);
  auto const small = be.allocate<float>(100);
  CHECK(reinterpret_cast<std::uintptr_t>(small.get()) % 64 == 0);
  CHECK(alignment_for(2 * large_page - 1) == 64);
  prefer_large_pages(small.get(), 400);  // nothing to advise
}
