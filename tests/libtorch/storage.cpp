#include <sstream>

#include "support.hpp"

using namespace loraga;
using libtorch::lora_linear;
using namespace libtorch_tests;

namespace {

/// torch::save and torch::load, through memory.
template <class M>
std::string stored_module(M const& module) {
  std::ostringstream to;
  torch::save(module, to);
  return to.str();
}
template <class M>
void restore_module(M& module, std::string const& bytes) {
  std::istringstream from(bytes);
  torch::load(module, from);
}

lora_linear<> layer_of_seed(std::uint64_t seed) {
  torch::manual_seed(seed);
  return lora_linear<>(torch::nn::Linear(12, 10), 3);
}

}  // namespace

TEST_CASE("libtorch: an adapter follows tensors that torch moves") {
  auto layer = layer_of_seed(1);
  fill_factors(*layer);
  auto const x = torch::randn({5, 12});
  auto const before = layer->forward(x).detach().clone();
  SECTION("Module::to there and back") {
    auto const* const was = layer->lora_a().data_ptr();
    std::vector<at::Tensor> elsewhere;  // so that the new storage cannot be the old one
    for (auto const& p : layer->parameters()) elsewhere.push_back(p.detach());
    layer->to(torch::kDouble);
    CHECK_THROWS_AS(layer->forward(x.to(torch::kDouble)), value_error);  // by name: the adapter is of float
    layer->to(torch::kFloat);
    REQUIRE(layer->lora_a().data_ptr() != was);
    CHECK(relative_error(layer->forward(x), before) < 1e-6);
  }
  SECTION("new storage of A and B is trained and read") {
    std::vector<at::Tensor> const elsewhere{layer->lora_a().detach(), layer->lora_b().detach()};
    layer->lora_a().set_data(2 * layer->lora_a().detach());
    layer->lora_b().set_data(layer->lora_b().detach().contiguous());  // rows contiguous: other strides
    auto const part = before - layer->base->forward(x);
    CHECK(relative_error(layer->forward(x) - layer->base->forward(x), 2 * part) < 1e-5);
  }
  SECTION("B's strides alone change") {
    auto const values = layer->lora_b().detach().clone(), elsewhere = layer->lora_b().detach();
    layer->lora_b().set_data(torch::from_blob(elsewhere.data_ptr(), {10, 3}));
    at::NoGradGuard const off;
    layer->lora_b().copy_(values);
    CHECK(relative_error(layer->forward(x), before) < 1e-6);
  }
  SECTION("moved between forward and backward") {
    auto const loss = layer->forward(x).sum();
    std::vector<at::Tensor> const elsewhere{layer->lora_a().detach()};
    layer->lora_a().set_data(torch::ones({3, 12}));
    CHECK_THROWS_AS(loss.backward(), state_error);
  }
}

TEST_CASE("libtorch: torch's files hold an adapter with its start") {
  auto layer = layer_of_seed(2);
  auto const x = torch::randn({5, 12});
  auto const base = layer->base->forward(x).clone();
  static constexpr int by_hand = 0, paired = 1, in_place = 2;
  int const start = GENERATE(by_hand, paired, in_place), over = GENERATE(by_hand, paired, in_place);
  auto const begin = [](auto& l, int how) {
    if (how == paired) libtorch::initialise(*l, pissa_init{}, frozen_pair_anchor{});
    if (how == in_place) libtorch::initialise(*l, pissa_init{}, in_place_anchor{});
  };
  begin(layer, start);
  if (start != by_hand) CHECK(relative_error(layer->forward(x), base) < 1e-6);
  if (start == in_place) {
    at::NoGradGuard const off;
    layer->lora_b().mul_(1.1);
  } else {
    fill_factors(*layer, 0.05);
  }
  auto const expected = layer->forward(x).detach().clone();
  auto const bytes = stored_module(layer);
  auto other = layer_of_seed(3);
  begin(other, over);
  restore_module(other, bytes);
  CHECK(relative_error(other->forward(x), expected) < 1e-6);
  auto const change = [&](auto& l) {
    auto const r = libtorch::take_records(l)[0];
    at::Tensor const sum = torch::zeros({10, 12});
    for (auto const& [a, b, sign] : {std::tuple(&r.a, &r.b, 1.f), std::tuple(&r.start_a, &r.start_b, -1.f)}) {
      if (a->empty()) continue;
      auto const tensor = [](record_matrix const& m) {
        return torch::from_blob(const_cast<float*>(m.values.data()), {m.rows, m.cols}).clone();
      };
      sum.add_(sign * static_cast<float>(r.scale) * tensor(*b).mm(tensor(*a)));
    }
    return sum;
  };
  struct wrapper : torch::nn::Module {
    explicit wrapper(lora_linear<>& l) { register_module("fc", l); }
  } first(layer), second(other);
  CHECK(relative_error(change(second), change(first)) < 1e-5);  // relative to the W there was before
  auto const again = stored_module(other);
  auto third = layer_of_seed(4);
  restore_module(third, again);
  CHECK(relative_error(third->forward(x), expected) < 1e-6);
  third->forward(x).sum().backward();
  CHECK(third->lora_a().grad().abs().sum().item<float>() > 0);
  CHECK(third->named_buffers()["anchor"].item<std::int64_t>() == start);
}

TEST_CASE("libtorch: a merged adapter is neither saved nor loaded nor moved") {
  auto layer = layer_of_seed(5);
  fill_factors(*layer);
  auto const x = torch::randn({5, 12});
  auto const before = layer->forward(x).detach().clone();
  auto const bytes = stored_module(layer);
  layer->eval();
  layer->merge();
  CHECK(relative_error(layer->base->forward(x), before) < 1e-6);
  CHECK(relative_error(layer->forward(x), before) < 1e-6);
  CHECK_THROWS_AS(stored_module(layer), state_error);
  CHECK_THROWS_AS(restore_module(layer, bytes), state_error);
  CHECK_THROWS_AS(layer->merge(), state_error);
  SECTION("W replaced") {
    auto const elsewhere = layer->base->weight.detach();
    layer->base->weight.set_data(torch::randn({10, 12}));
    CHECK_THROWS_AS(layer->forward(x), state_error);
  }
  SECTION("A moved") {
    auto const elsewhere = layer->lora_a().detach();
    layer->lora_a().set_data(torch::randn({3, 12}));
    CHECK_THROWS_AS(layer->forward(x), state_error);
  }
  SECTION("unmerged again") {
    layer->unmerge();
    CHECK(relative_error(layer->forward(x), before) < 1e-6);
  }
}

TEST_CASE("libtorch: a base that is loaded under an adapter anchored in it is refused") {
  auto layer = layer_of_seed(6);
  libtorch::initialise(*layer, pissa_init{}, in_place_anchor{});
  auto const bytes = stored_module(torch::nn::Linear(12, 10));
  auto const elsewhere = layer->base->weight.detach();
  restore_module(layer->base, bytes);
  CHECK_THROWS_WITH(layer->forward(torch::randn({5, 12})),
                    Catch::Contains("lora_linear: the base's weight is another"));
}

TEST_CASE("libtorch: A and B of 16 bit, stepped by torch, are what the library merges") {
  torch::manual_seed(7);
  torch::nn::Linear base(12, 10);
  base->to(torch::kBFloat16);
  lora_linear<bf16> layer(base, 3);
  fill_factors(*layer);
  auto const w = base->weight.detach().to(torch::kFloat).clone();
  REQUIRE(layer->started());  // the adapter has seen these values; torch steps them now
  {
    at::NoGradGuard const off;
    layer->lora_b().mul_(2);
  }
  layer->with_adapter([](cpu&, auto& ad) {
    auto const master = ad.parameters()[1].master;
    CHECK(master(3, 1) == static_cast<float>(ad.b()(3, 1)));
  });
  layer->merge();
  auto const change = layer->scale() * layer->lora_b().to(torch::kFloat).mm(layer->lora_a().to(torch::kFloat));
  CHECK(relative_error(base->weight.detach().to(torch::kFloat) - w, change) < 2e-2);
}
