#include <loraga/start/check_layers.hpp>

#include "../init/checks.hpp"

using namespace loraga;
using test::backend;

TEST_CASE("shared memory of layers is found, wherever they stand; slices side by side are none", "[start]") {
  auto be = test::make_backend();
  using A = lora<float, backend>;
  using layer_of = layer<A, test::view<float>>;
  std::vector<A> adapters;
  matrix<float, backend> packed(be, 12, 60), other(be, 12, 10);  // a framework's fused weight: five layers in one
  for (int i = 0; i < 6; ++i) adapters.emplace_back(be, 12, 10, 2, classic_scaling{});
  std::vector<layer_of> layers;
  for (index_t i = 0; i < 5; ++i)
    layers.push_back({&adapters[static_cast<std::size_t>(i)], packed.view().columns(10 * i, 10)});
  layers.push_back({&adapters[5], other.view()});
  auto const look = [&] { check_layers(layers, pissa_init{}, in_place_anchor{}); };
  CHECK_NOTHROW(look());
  layers[5].weight = packed.view().columns(15, 10);  // parts of two of them
  CHECK_THROWS_WITH(look(), Catch::Contains("layer 5): W is overlapping that of layer 1"));
  CHECK_NOTHROW(check_layers(layers, pissa_init{}, frozen_pair_anchor{}));
  matrix<float, backend> rows(be, 24, 10);
  layers[0].weight = rows.view().row_range(0, 12);  // interleaved in memory, and still apart
  layers[5].weight = rows.view().row_range(12, 12);
  CHECK_NOTHROW(look());
  layers[5].weight = rows.view().row_range(11, 12);
  CHECK_THROWS_AS(look(), alias_error);
  layers[5] = {&adapters[2], other.view()};
  CHECK_THROWS_WITH(look(), Catch::Contains("layer 5): adapter is that of layer 2"));
}
