#include "support.hpp"

using namespace loraga;
using namespace libtorch_tests;

namespace {

constexpr index_t wide_in = 20, hidden = 24, narrow_out = 12, batch = 32;
constexpr int training_steps = 30;

/// A network of two layers by the library alone: row-major weights, tokens x features buffers.
struct plain_network {
  cpu be{1};
  std::vector<float> w1, w2, x, target, h, a, y, dy, da;
  lora<float, cpu> first{be, hidden, wide_in, 4, rank_stable_scaling{.alpha = 8}};
  lora<float, cpu> second{be, narrow_out, hidden, 4, rank_stable_scaling{.alpha = 8}};
  lora<float, cpu>::tape tape1, tape2;

  static std::vector<float> numbers(at::Tensor const& t) {
    auto const c = t.detach().contiguous();
    return {static_cast<float*>(c.data_ptr()), static_cast<float*>(c.data_ptr()) + c.numel()};
  }
  static std::vector<float> zeros(index_t n) { return std::vector<float>(static_cast<std::size_t>(n)); }
  plain_network(at::Tensor const& weight1, at::Tensor const& weight2, at::Tensor const& inputs,
                at::Tensor const& wanted)
      : w1(numbers(weight1)),
        w2(numbers(weight2)),
        x(numbers(inputs)),
        target(numbers(wanted)),
        h(zeros(batch * hidden)),
        a(h),
        y(zeros(batch * narrow_out)),
        dy(y),
        da(h) {}

  auto W1() { return row_major(w1.data(), hidden, wide_in); }
  auto W2() { return row_major(w2.data(), narrow_out, hidden); }
  auto X() { return activations(x.data(), batch, wide_in); }
  auto A() { return activations(a.data(), batch, hidden); }
  auto H() { return activations(h.data(), batch, hidden); }

  double forward(bool adapted) {
    auto const Y = activations(y.data(), batch, narrow_out);
    be.gemm(1, W1(), X(), 0, H());
    if (adapted) first.forward(be, W1(), X(), H(), tape1);
    for (std::size_t i = 0; i < h.size(); ++i) a[i] = std::max(0.f, h[i]);
    be.gemm(1, W2(), A(), 0, Y);
    if (adapted) second.forward(be, W2(), A(), Y, tape2);
    double sum = 0;
    auto const n = static_cast<float>(y.size());
    for (std::size_t i = 0; i < y.size(); ++i) {
      float const e = y[i] - target[i];
      dy[i] = 2 * e / n;
      sum += static_cast<double>(e * e) / static_cast<double>(y.size());
    }
    return sum;
  }
  void backward(bool adapted, dense_gradient<cpu>* g1, dense_gradient<cpu>* g2) {
    auto const dY = activations(dy.data(), batch, narrow_out), dA = activations(da.data(), batch, hidden);
    if (g2) g2->add_outer(be, dY, A());
    be.gemm(1, W2().transposed(), dY, 0, dA);
    if (adapted) (void)second.backward(be, W2(), A(), dY, tape2, 1, dA);
    for (std::size_t i = 0; i < h.size(); ++i) da[i] = h[i] > 0 ? da[i] : 0;
    if (g1) g1->add_outer(be, dA, X());
    if (adapted) (void)first.backward(be, W1(), X(), dA, tape1);
  }
};

template <class X>
void compare_training(X const& anchor) {
  torch::manual_seed(3);
  torch::nn::Linear one(torch::nn::LinearOptions(wide_in, hidden).bias(false));
  torch::nn::Linear two(torch::nn::LinearOptions(hidden, narrow_out).bias(false));
  auto const x = torch::randn({batch, wide_in}), target = torch::randn({batch, narrow_out});
  plain_network plain(one->weight, two->weight, x, target);

  torch::nn::Sequential net;
  net->push_back(libtorch::lora_linear<>(one, 4, rank_stable_scaling{.alpha = 8}));
  net->push_back(torch::nn::Functional(torch::relu));
  net->push_back(libtorch::lora_linear<>(two, 4, rank_stable_scaling{.alpha = 8}));
  auto const loss = [&] { return torch::nn::functional::mse_loss(net->forward(x), target); };
  libtorch::gradient_collection<dense_gradient<cpu>> estimate(*net);
  loss().backward();
  libtorch::initialise(estimate, lora_ga_init{.gamma = 16}, anchor);

  dense_gradient<cpu> g1(plain.be, hidden, wide_in), g2(plain.be, narrow_out, hidden);
  plain.forward(false);
  plain.backward(false, &g1, &g2);
  std::vector layers{layer{&plain.first, plain.W1(), &g1}, layer{&plain.second, plain.W2(), &g2}};
  initialise(plain.be, layers, lora_ga_init{.gamma = 16}, anchor);

  std::vector<at::Tensor> trained;
  for (auto const& p : net->parameters())
    if (p.requires_grad()) trained.push_back(p);
  REQUIRE(trained.size() == 4);
  torch::optim::AdamW torchs(trained, torch::optim::AdamWOptions(1e-2).weight_decay(0));
  adamw<float, cpu> ours(plain.be);
  add_adapter(plain.be, ours, plain.first, {.learning_rate = 1e-2, .weight_decay = 0});
  add_adapter(plain.be, ours, plain.second, {.learning_rate = 1e-2, .weight_decay = 0});
  double begin = 0, end = 0;
  for (int step = 0; step < training_steps; ++step) {
    auto const l = loss();
    torchs.zero_grad();
    l.backward();
    torchs.step();
    double const expected = plain.forward(true);
    plain.first.zero_gradient(plain.be);
    plain.second.zero_gradient(plain.be);
    plain.backward(true, nullptr, nullptr);
    ours.step(plain.be);
    CHECK(l.template item<double>() == Approx(expected).epsilon(1e-5));
    if (step == 0) begin = expected;
    end = expected;
  }
  CHECK(end < 0.8 * begin);
}

}  // namespace

TEST_CASE("libtorch: the losses of a training are those of the library's own loop") {
  SECTION("anchored in place") { compare_training(in_place_anchor{}); }
  SECTION("with the pair") { compare_training(frozen_pair_anchor{}); }
}
