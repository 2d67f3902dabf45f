#include <loraga/backend/packets.hpp>
#include <vector>

#include "../support/catch.hpp"

using namespace loraga;

namespace {

template <class V, class T>
index_t wrong_in_transposed() {
  constexpr index_t n = V::lanes, from_ld = n + 3, to_ld = n + 1;
  std::vector<T> from(static_cast<std::size_t>(n * from_ld)), to(static_cast<std::size_t>(n * to_ld), T(-1));
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<T>(i);
  V::transpose(from.data(), from_ld, to.data(), to_ld);
  index_t wrong = 0;
  for (index_t i = 0; i < n; ++i)
    for (index_t k = 0; k < n; ++k)
      wrong += to[static_cast<std::size_t>(k * to_ld + i)] != from[static_cast<std::size_t>(i * from_ld + k)];
  for (index_t k = 0; k < n; ++k) wrong += to[static_cast<std::size_t>(k * to_ld + n)] != T(-1);  // the gap
  return wrong;
}

}  // namespace

TEMPLATE_TEST_CASE("a square of registers is transposed, and gaps are left alone", "[backend]", float, double) {
  CHECK(wrong_in_transposed<eigen::packets<TestType>, TestType>() == 0);
  CHECK(wrong_in_transposed<eigen::packets<TestType, true>, TestType>() == 0);
  CHECK(eigen::packets<TestType, true>::lanes <= eigen::packets<TestType>::lanes);
}
