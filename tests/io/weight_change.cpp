#include <loraga/io/weight_change.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

TEST_CASE("tensors are rounded into another type element by element, wherever they lie", "[io]") {
  float const values[] = {1, -2.5f, 1.0f / 3, 1e30f};
  std::vector<std::byte> bytes(1 + sizeof values);  // not aligned
  std::memcpy(bytes.data() + 1, values, sizeof values);
  stored_tensor const t{"t", dtype::F32, {2, 2}, std::span(bytes).subspan(1)};
  auto const wide = format::converted(t, dtype::F64), narrow = format::converted(t, dtype::BF16);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(load_element<double>(wide.data() + 8 * i) == static_cast<double>(values[i]));
    CHECK(value_as<float>(load_element<bf16>(narrow.data() + 2 * i)) == value_as<float>(bf16(values[i])));
  }
  CHECK_THROWS_AS(format::converted(t, dtype::I32), format_error);
}
