#include "support.hpp"

using namespace loraga;
using libtorch::lora_linear;
using namespace libtorch_tests;

namespace {

/// The plain formula in double, by torch alone; A0 and B0 where a start is subtracted.
struct plain_formula {
  at::Tensor x, w, bias, a, b, a0, b0;
  double s;
  template <class L>
  plain_formula(L& layer, at::Tensor const& input) : s(layer.scale()) {
    auto const copy = [](at::Tensor const& t) { return t.detach().to(at::kDouble).clone().set_requires_grad(true); };
    x = copy(input), w = copy(layer.base->weight), bias = copy(layer.base->bias);
    a = copy(layer.lora_a()), b = copy(layer.lora_b());
    a0 = torch::zeros_like(a), b0 = torch::zeros_like(b);
    layer.with_adapter([&](auto&, auto& ad) {
      if (!ad.paired()) return;
      a0 = copy(layer.named_buffers()["start_A"]), b0 = copy(layer.named_buffers()["start_B"]);
    });
  }
  at::Tensor forward() const {
    return torch::matmul(x, w.t()) + bias +
           s * (torch::matmul(torch::matmul(x, a.t()), b.t()) - torch::matmul(torch::matmul(x, a0.t()), b0.t()));
  }
};

template <class L>
void compare_with_plain_formula(L& layer, at::Tensor const& input, double tolerance) {
  plain_formula const plain(layer, input);
  auto const x = input.detach().clone().set_requires_grad(true);
  auto const y = layer.forward(x), expected = plain.forward();
  auto const dy = torch::randn_like(expected);
  expected.backward(dy);
  y.backward(dy.to(y.scalar_type()));
  CHECK(relative_error(y, expected) < tolerance);
  CHECK(relative_error(x.grad(), plain.x.grad()) < tolerance);
  CHECK(relative_error(layer.lora_a().grad(), plain.a.grad()) < tolerance);
  CHECK(relative_error(layer.lora_b().grad(), plain.b.grad()) < tolerance);
  CHECK(!layer.base->weight.grad().defined());
}

}  // namespace

TEST_CASE("libtorch: forward and gradients are autograd's of the plain formula") {
  torch::manual_seed(1);
  lora_linear<> layer(torch::nn::Linear(48, 40), 4, classic_scaling{.alpha = 8});
  fill_factors(*layer);
  SECTION("two dimensions") { compare_with_plain_formula(*layer, torch::randn({17, 48}), 1e-6); }
  SECTION("three dimensions") { compare_with_plain_formula(*layer, torch::randn({3, 5, 48}), 1e-6); }
  SECTION("one dimension") { compare_with_plain_formula(*layer, torch::randn({48}), 1e-6); }
  SECTION("no token") {
    auto const y = layer->forward(torch::zeros({3, 0, 48}));
    y.sum().backward();
    CHECK(y.numel() == 0);
    CHECK(layer->lora_a().grad().abs().sum().item<float>() == 0);
  }
  SECTION("a transposed batch is copied") {
    compare_with_plain_formula(*layer, torch::randn({5, 3, 48}).transpose(0, 1), 1e-6);
  }
  SECTION("features that are not contiguous") { compare_with_plain_formula(*layer, torch::randn({48, 9}).t(), 1e-6); }
  SECTION("a frozen pair") {
    libtorch::initialise(*layer, pissa_init{}, frozen_pair_anchor{});
    fill_factors(*layer);
    compare_with_plain_formula(*layer, torch::randn({17, 48}), 2e-6);
  }
  SECTION("anchored in place") {
    libtorch::initialise(*layer, pissa_init{}, in_place_anchor{});
    compare_with_plain_formula(*layer, torch::randn({17, 48}), 1e-6);
  }
}

TEST_CASE("libtorch: other element types") {
  torch::manual_seed(2);
  SECTION("double") {
    lora_linear<double> layer(
        [] {
          torch::nn::Linear l(12, 10);
          l->to(torch::kDouble);
          return l;
        }(),
        3);
    fill_factors(*layer);
    compare_with_plain_formula(*layer, torch::randn({7, 12}, torch::kDouble), 1e-13);
  }
  SECTION("a float adapter on a bf16 base") {
    lora_linear<float, cpu, bf16> layer(
        [] {
          torch::nn::Linear l(12, 10);
          l->to(torch::kBFloat16);
          return l;
        }(),
        3);
    fill_factors(*layer);
    compare_with_plain_formula(*layer, torch::randn({7, 12}, torch::kBFloat16), 2e-2);
    CHECK(layer->lora_a().grad().scalar_type() == torch::kFloat);
  }
#if TORCH_VERSION_MAJOR >= 2  // before, LibTorch had no products of Half on a CPU
  SECTION("a half adapter on a half base") {
    lora_linear<fp16> layer(
        [] {
          torch::nn::Linear l(12, 10);
          l->to(torch::kHalf);
          return l;
        }(),
        3);
    fill_factors(*layer);
    auto const x = torch::randn({7, 12}, torch::kHalf), y = torch::zeros({7, 10}, torch::kHalf);
    auto const X = x.to(torch::kDouble), A = layer->lora_a().to(torch::kDouble), B = layer->lora_b().to(torch::kDouble);
    auto const part = layer->forward(x).to(torch::kDouble) - layer->base->forward(x).to(torch::kDouble);
    CHECK(relative_error(part, layer->scale() * X.mm(A.t()).mm(B.t())) < 2e-2);
  }
#endif
  SECTION("a base that computes in another type, as under autocast") {
    lora_linear<> layer(torch::nn::Linear(12, 10), 3);
    fill_factors(*layer);
    auto const x = torch::randn({7, 12});
    auto const expected = plain_formula(*layer, x).forward();
    auto const y = [&] {
      autocast_scope const on;
      return layer->forward(x);
    }();
    CHECK(y.scalar_type() == torch::kBFloat16);
    CHECK(relative_error(y, expected) < 2e-2);
    y.sum().backward();
    CHECK(layer->lora_a().grad().scalar_type() == torch::kFloat);
  }
}

TEST_CASE("libtorch: expanded gradients are copied") {
  torch::manual_seed(3);
  lora_linear<> layer(torch::nn::Linear(12, 10), 3);
  fill_factors(*layer);
  auto const x = torch::randn({7, 12});
  plain_formula const plain(*layer, x);
  plain.forward().sum().backward();
  layer->forward(x).sum().backward();
  CHECK(relative_error(layer->lora_a().grad(), plain.a.grad()) < 1e-6);
  CHECK(relative_error(layer->lora_b().grad(), plain.b.grad()) < 1e-6);
}

TEST_CASE("libtorch: gradients add up once, and are torch's") {
  torch::manual_seed(4);
  lora_linear<> layer(torch::nn::Linear(12, 12), 3);
  fill_factors(*layer);
  auto const x = torch::randn({7, 12});
  auto const once = [&] {
    layer->zero_grad();
    layer->forward(x).pow(2).sum().backward();
    return layer->lora_a().grad().clone();
  };
  auto const single = once();
  SECTION("two backward passes") {
    layer->forward(x).pow(2).sum().backward();
    CHECK(relative_error(layer->lora_a().grad(), 2 * single) < 1e-6);
  }
  SECTION("retain_graph") {
    auto const loss = layer->forward(x).pow(2).sum();
    layer->zero_grad();
    loss.backward({}, true);
    loss.backward({}, false);
    CHECK(relative_error(layer->lora_a().grad(), 2 * single) < 1e-6);
    CHECK_THROWS(loss.backward());  // torch: the graph is freed
  }
  SECTION("a layer used twice") {
    plain_formula plain(*layer, x);
    auto const middle = plain.forward();
    plain.x = middle;
    plain.forward().pow(2).sum().backward();
    layer->zero_grad();
    layer->forward(layer->forward(x)).pow(2).sum().backward();
    CHECK(relative_error(layer->lora_a().grad(), plain.a.grad()) < 2e-6);
    CHECK(relative_error(layer->lora_b().grad(), plain.b.grad()) < 2e-6);
  }
  SECTION("torch::autograd::grad leaves .grad alone") {
    layer->zero_grad(true);
    auto const g = torch::autograd::grad({layer->forward(x).pow(2).sum()}, {layer->lora_a()});
    CHECK(relative_error(g[0], single) < 1e-6);
    CHECK(!layer->lora_a().grad().defined());
  }
  SECTION("what a user keeps of .grad is not written again") {
    layer->zero_grad();
    layer->forward(x).pow(2).sum().backward();
    auto const kept = layer->lora_a().grad();
    layer->zero_grad(true);
    layer->forward(3 * x).pow(2).sum().backward();
    CHECK(relative_error(kept, single) < 1e-6);
  }
}

TEST_CASE("libtorch: a new start forgets the gradients of the old values") {
  lora_linear<> layer(torch::nn::Linear(12, 10), 3);
  fill_factors(*layer);
  layer->forward(torch::randn({7, 12})).sum().backward();
  libtorch::initialise(*layer, kaiming_init{});
  CHECK(!layer->lora_a().grad().defined());
}

TEST_CASE("libtorch: without gradients") {
  torch::manual_seed(5);
  lora_linear<> layer(torch::nn::Linear(12, 10), 3);
  fill_factors(*layer);
  auto const x = torch::randn({7, 12});
  auto const expected = plain_formula(*layer, x).forward();
  {
    at::NoGradGuard const off;
    auto const y = layer->forward(x);
    CHECK(!y.requires_grad());
    CHECK(relative_error(y, expected) < 1e-6);
  }
  {
    c10::InferenceMode const on;
    CHECK(relative_error(layer->forward(x), expected) < 1e-6);
  }
  layer->lora_a().set_requires_grad(false);
  layer->lora_b().set_requires_grad(false);
  CHECK(!layer->forward(x).requires_grad());
}

TEST_CASE("libtorch: a first layer's backward comes though its input needs no gradient, and a deep one's chain holds") {
  torch::manual_seed(6);
  lora_linear<> first(torch::nn::Linear(12, 9), 3), second(torch::nn::Linear(9, 5), 2);
  fill_factors(*first), fill_factors(*second);
  auto const x = torch::randn({7, 12});
  plain_formula p(*first, x);
  auto const h = p.forward().relu();
  plain_formula q(*second, h);
  q.x = h;
  q.forward().pow(2).sum().backward();
  second->forward(first->forward(x).relu()).pow(2).sum().backward();
  CHECK(relative_error(first->lora_a().grad(), p.a.grad()) < 2e-6);
  CHECK(relative_error(first->lora_b().grad(), p.b.grad()) < 2e-6);
  CHECK(relative_error(second->lora_a().grad(), q.a.grad()) < 2e-6);
}

TEST_CASE("libtorch: what would be silently wrong is refused") {
  torch::manual_seed(7);
  lora_linear<> layer(torch::nn::Linear(12, 10), 3);
  auto const x = torch::randn({7, 12}).set_requires_grad(true);
  SECTION("no start") { CHECK_THROWS_AS(layer->forward(x), state_error); }
  fill_factors(*layer);
  SECTION("second derivatives") {
    auto const loss = layer->forward(x).pow(2).sum();
    CHECK_THROWS_AS(torch::autograd::grad({loss}, {x}, {}, true, true), state_error);
  }
  SECTION("W merged while a graph lives") {
    auto const loss = layer->forward(x).pow(2).sum();
    layer->merge();
    CHECK_THROWS_AS(loss.backward(), state_error);
  }
  SECTION("W written while a graph lives") {
    auto const loss = layer->forward(x).pow(2).sum();
    layer->merge();
    layer->unmerge();
    CHECK_THROWS_WITH(loss.backward(), Catch::Contains("modified by an inplace operation"));
  }
  SECTION("A written while a graph lives, also by the library") {
    auto const loss = layer->forward(torch::randn({7, 12})).pow(2).sum();
    libtorch::initialise(*layer, kaiming_init{});
    CHECK_THROWS_WITH(loss.backward(), Catch::Contains("modified by an inplace operation"));
  }
  SECTION("X written while a graph lives") {
    auto const input = torch::randn({7, 12});
    auto const loss = layer->forward(input).pow(2).sum();
    input.add_(1);
    CHECK_THROWS_WITH(loss.backward(), Catch::Contains("modified by an inplace operation"));
  }
  SECTION("rank 0") { CHECK_THROWS_AS(lora_linear<>(torch::nn::Linear(12, 10), 0), value_error); }
  SECTION("a base of another type") {
    torch::nn::Linear wide(12, 10);
    wide->to(torch::kDouble);
    CHECK_THROWS_AS(lora_linear<>(wide, 2), value_error);
    lora_linear<> later(torch::nn::Linear(12, 10), 2);
    later->base->to(torch::kDouble);
    CHECK_THROWS_AS(libtorch::initialise(*later, pissa_init{}, in_place_anchor{}), value_error);
  }
}

TEST_CASE("libtorch: dropout draws by torch's training mode, and evaluates without") {
  torch::manual_seed(8);
  lora_linear<> layer(torch::nn::Linear(32, 10), 3, rank_stable_scaling{}, {.dropout = 0.5, .seed = 3});
  fill_factors(*layer);
  auto const x = torch::randn({7, 32});
  auto const expected = plain_formula(*layer, x).forward();
  auto const y = layer->forward(x);
  CHECK(relative_error(y, expected) > 1e-2);
  layer->eval();
  CHECK(relative_error(layer->forward(x), expected) < 1e-6);
  y.sum().backward();  // of the training pass, with its mask
  CHECK(layer->lora_a().grad().abs().sum().item<float>() > 0);
}
