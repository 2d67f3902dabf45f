// Both namespaces opened, as users do: what this file names must not be ambiguous.
#include "support.hpp"

using namespace torch;
using namespace loraga;
using namespace loraga::libtorch;

TEST_CASE("libtorch: both namespaces may be opened") {
  manual_seed(1);
  lora_linear<> layer(nn::Linear(6, 5), 2, rank_stable_scaling{.alpha = 4});
  initialise(*layer, kaiming_init{});
  Tensor const x = torch::randn({3, 6});
  auto const y = layer->forward(x);
  CHECK(flattened<float>(y).cols == 3);
  lora_embedding<> words(nn::Embedding(7, 4), 2);
  lora_conv2d<> filter(nn::Conv2d(1, 2, 3), 2);
  initialise(*words, kaiming_init{});
  CHECK(words->forward(torch::zeros({2}, kLong)).size(1) == 4);
  CHECK(adapted_layers(*filter).size() == 1);
  optim::AdamW const steps({layer->lora_a()}, optim::AdamWOptions(1e-3));
  gradient_collection<incremental_gradient<cpu>> const estimate(*layer, {.rank = 2});
  CHECK(estimate.layers().size() == 1);
}
