#include "support.hpp"

using namespace loraga;
using libtorch::gradient_collection;
using libtorch::lora_linear;
using namespace libtorch_tests;

namespace {

struct small_network : torch::nn::Module {
  lora_linear<> first{nullptr}, second{nullptr};
  small_network() {
    torch::manual_seed(11);
    first = register_module("first", lora_linear<>(torch::nn::Linear(24, 20), 3));
    second = register_module("second", lora_linear<>(torch::nn::Linear(20, 16), 3));
  }
  at::Tensor forward(at::Tensor const& x) { return second->forward(first->forward(x).relu()); }
  at::Tensor loss(std::uint64_t batch) {
    torch::manual_seed(batch);
    auto const x = torch::randn({32, 24}), target = torch::randn({32, 16});
    return torch::nn::functional::mse_loss(forward(x), target);
  }
};

/// dW of both layers, by torch alone.
std::vector<at::Tensor> mean_gradients(small_network& net, int batches) {
  std::vector<at::Tensor> weights{net.first->base->weight.detach().clone(), net.second->base->weight.detach().clone()};
  for (auto& w : weights) w.set_requires_grad(true);
  for (int i = 0; i < batches; ++i) {
    torch::manual_seed(static_cast<std::uint64_t>(i));
    auto const x = torch::randn({32, 24}), target = torch::randn({32, 16});
    auto const h = torch::addmm(net.first->base->bias, x, weights[0].t()).relu();
    (torch::nn::functional::mse_loss(torch::addmm(net.second->base->bias, h, weights[1].t()), target) / batches)
        .backward();
  }
  return {weights[0].grad(), weights[1].grad()};
}

}  // namespace

TEST_CASE("libtorch: backward feeds the estimate with torch's own weight gradient") {
  small_network net;
  auto const expected = mean_gradients(net, 3);
  gradient_collection<dense_gradient<cpu>> estimate(net);
  for (std::uint64_t i = 0; i < 3; ++i) net.loss(i).backward();
  estimate.stop();
  for (std::size_t l = 0; l < 2; ++l) {
    REQUIRE(estimate[l].count() == 3);
    auto found = torch::zeros_like(expected[l]);
    cpu be(1);
    estimate[l].estimate(be, libtorch::view<float>(found));
    CHECK(relative_error(found, expected[l]) < 1e-5);
  }
  CHECK(!net.first->lora_a().grad().defined());  // calibration leaves nothing behind
  CHECK(estimate.layers()[1].name == "second");
  CHECK_THROWS_AS(net.loss(0), state_error);  // not started, and nothing collects
}

TEST_CASE("libtorch: LoRA-GA starts a model that is unchanged, whose first step follows the gradient") {
  small_network net;
  auto const x = torch::randn({8, 24});
  at::Tensor before;
  {
    gradient_collection<dense_gradient<cpu>> estimate(net);
    before = net.forward(x).detach();
    for (std::uint64_t i = 0; i < 3; ++i) net.loss(i).backward();
    SECTION("in place") { libtorch::initialise(estimate, lora_ga_init{.gamma = 16}, in_place_anchor{}); }
    SECTION("with the pair") { libtorch::initialise(estimate, lora_ga_init{.gamma = 16}, frozen_pair_anchor{}); }
    SECTION("with an SVD method of choice") {
      libtorch::initialise(estimate, lora_ga_init{.gamma = 16}, gram{}, frozen_pair_anchor{});
    }
  }
  bool const exact = !net.first->with_adapter([](auto&, auto& ad) { return ad.anchored_in_place(); });
  auto const after = net.forward(x).detach();
  if (exact) CHECK(torch::equal(after, before));
  CHECK(relative_error(after, before) < 2e-5);
  // A's rows are gradient directions: orthogonal rows of equal length
  auto const a = net.first->lora_a().detach();
  auto const gram_matrix = a.mm(a.t());
  CHECK(relative_error(gram_matrix, torch::eye(3) * gram_matrix[0][0]) < 1e-4);
  CHECK(net.loss(5).item<float>() > 0);
}

TEST_CASE("libtorch: starts by name") {
  small_network net;
  SECTION("kaiming") {
    libtorch::initialise(net, kaiming_init{.seed = 3});
    CHECK(net.first->lora_a().abs().sum().item<float>() > 0);
    CHECK(net.first->lora_b().abs().sum().item<float>() == 0);
  }
  SECTION("pissa") {
    auto const w = net.first->base->weight.detach().clone();
    libtorch::initialise(net, pissa_init{}, in_place_anchor{});
    auto const sum = net.first->base->weight.detach() +
                     net.first->scale() * net.first->lora_b().detach().mm(net.first->lora_a().detach());
    CHECK(relative_error(sum, w) < 1e-5);
    CHECK(relative_error(net.first->base->weight.detach(), w) > 1e-2);
    CHECK_THROWS_AS(libtorch::initialise(net, pissa_init{}, in_place_anchor{}), state_error);
  }
  net.loss(1).backward();
  CHECK(net.second->lora_b().grad().abs().sum().item<float>() > 0);
}

TEST_CASE("libtorch: a start that fails is told to autograd where it wrote, and names the layer") {
  small_network net;
  gradient_collection<dense_gradient<cpu>> estimate(net);
  SECTION("nothing collected") {
    CHECK_THROWS_AS(libtorch::initialise(estimate, lora_ga_init{}, in_place_anchor{}), state_error);
  }
  SECTION("one layer without a gradient") {
    // second's weight gradient is 0, first's is not: the loss takes first's output alone
    net.first->forward(torch::randn({32, 24})).pow(2).sum().backward();
    auto const zero = torch::zeros({16, 4}), x = torch::zeros({4, 20});
    cpu be(1);
    estimate[1].add_outer(be, libtorch::view<float>(zero), libtorch::view<float>(x).transposed());
    auto const version = net.first->base->weight._version();
    CHECK_THROWS_WITH(libtorch::initialise(estimate, lora_ga_init{}, in_place_anchor{}), Catch::Contains("second"));
    CHECK(net.first->base->weight._version() > version);
    CHECK(net.first->started());
    CHECK(!net.second->started());
  }
}

TEST_CASE("libtorch: collections are refused where they would mislead") {
  small_network net;
  torch::nn::Linear plain(3, 3);
  CHECK_THROWS_AS(gradient_collection<dense_gradient<cpu>>(*plain), state_error);
  CHECK_THROWS_AS(libtorch::initialise(*plain, kaiming_init{}), state_error);
  gradient_collection<dense_gradient<cpu>> const one(net);
  CHECK_THROWS_WITH(gradient_collection<dense_gradient<cpu>>(net),
                    Catch::Contains("layer 'first' is in another collection"));
}

TEST_CASE("libtorch: layers that start together share a runtime") {
  torch::nn::Sequential net;
  net->push_back(lora_linear<>(torch::nn::Linear(6, 5), 2));
  net->push_back(
      lora_linear<>(torch::nn::Linear(5, 4), 2, classic_scaling{}, {}, std::make_shared<libtorch::runtime<cpu>>(2)));
  CHECK_THROWS_AS(libtorch::initialise(*net, kaiming_init{}), state_error);
}
