#include "support.hpp"

using namespace loraga;
using libtorch::lora_conv2d;
using libtorch::lora_embedding;
using namespace libtorch_tests;

namespace {

at::Tensor double_leaf(at::Tensor const& t) { return t.detach().to(at::kDouble).clone().set_requires_grad(true); }

/// A convolution and its plain formula: A as a kernel of r channels, B as a 1x1 one.
void compare_convolution(torch::nn::Conv2dOptions const& options, at::Tensor const& input, double tolerance = 2e-6) {
  lora_conv2d<> layer(torch::nn::Conv2d(options), 3, classic_scaling{.alpha = 6});
  fill_factors(*layer);
  auto const& o = layer->base->options;
  auto const x64 = double_leaf(input), a = double_leaf(layer->lora_a()), b = double_leaf(layer->lora_b());
  auto const w = double_leaf(layer->base->weight), bias = double_leaf(layer->base->bias);
  auto const g = libtorch::geometry_of(o);
  at::IntArrayRef const stride = *o.stride(), dilation = *o.dilation();
  std::array<std::int64_t, 2> const padding{g.height.padding, g.width.padding};
  auto const convolved = [&](at::Tensor const& kernel, at::Tensor const& add) {
    return at::conv2d(x64, kernel, add, stride, padding, dilation, 1);
  };
  auto const expected =
      convolved(w, bias) + 2 * at::conv2d(convolved(a.view({3, o.in_channels(), g.height.kernel, g.width.kernel}), {}),
                                          b.view({o.out_channels(), 3, 1, 1}));
  auto const x = input.detach().clone(at::MemoryFormat::Preserve).set_requires_grad(true);
  dense_gradient<cpu> dw(*std::make_unique<cpu>(1), o.out_channels(), g.in());
  auto const y = layer->forward(x);
  auto const dy = torch::randn_like(expected);
  expected.backward(dy);
  y.backward(dy.to(at::kFloat));
  CHECK(relative_error(y, expected) < tolerance);
  CHECK(relative_error(x.grad(), x64.grad()) < tolerance);
  CHECK(relative_error(layer->lora_a().grad(), a.grad()) < tolerance);
  CHECK(relative_error(layer->lora_b().grad(), b.grad()) < tolerance);

  layer->collect(dw);
  layer->forward(x).backward(dy.to(at::kFloat));
  layer->stop();
  auto mean = torch::zeros({o.out_channels(), g.in()});
  cpu be(1);
  dw.estimate(be, libtorch::view<float>(mean));
  // with a start in the layer, what reaches W is the same dY
  CHECK(relative_error(mean, w.grad().view({o.out_channels(), -1})) < tolerance);

  auto const before = layer->forward(x).detach().clone();
  layer->merge();
  CHECK(relative_error(layer->base->forward(x), before) < tolerance);
  layer->unmerge();
}

}  // namespace

TEST_CASE("libtorch: a convolution's gradients are autograd's of the plain formula") {
  torch::manual_seed(1);
  using options = torch::nn::Conv2dOptions;
  SECTION("3x3") { compare_convolution(options(4, 6, 3).padding(1), torch::randn({2, 4, 7, 5})); }
  SECTION("strides, dilation, one side longer") {
    compare_convolution(options(4, 6, {3, 2}).stride({2, 1}).padding({2, 1}).dilation({2, 1}),
                        torch::randn({2, 4, 9, 8}));
  }
  SECTION("padding by name") {
    compare_convolution(options(4, 6, 3).padding(torch::kSame), torch::randn({2, 4, 7, 5}));
    compare_convolution(options(4, 6, 3).padding(torch::kValid), torch::randn({2, 4, 7, 5}));
  }
  SECTION("channels last") {
    compare_convolution(options(4, 6, 3), torch::randn({2, 4, 7, 5}).contiguous(at::MemoryFormat::ChannelsLast));
  }
  SECTION("images that are not contiguous") {
    compare_convolution(options(4, 6, 3), torch::randn({2, 4, 5, 7}).transpose(2, 3));
  }
  SECTION("one image") { compare_convolution(options(4, 6, 3), torch::randn({4, 7, 5})); }
}

TEST_CASE("libtorch: convolutions that an adapter cannot follow are refused") {
  using options = torch::nn::Conv2dOptions;
  CHECK_THROWS_AS(lora_conv2d<>(torch::nn::Conv2d(options(4, 6, 3).groups(2)), 2), value_error);
  CHECK_THROWS_AS(lora_conv2d<>(torch::nn::Conv2d(options(4, 6, 3).padding_mode(torch::kCircular)), 2), value_error);
  CHECK_THROWS_AS(lora_conv2d<>(torch::nn::Conv2d(options(4, 6, 2).padding(torch::kSame)), 2), value_error);
  lora_conv2d<> layer(torch::nn::Conv2d(options(4, 6, 3)), 2);
  fill_factors(*layer);
  layer->base->weight.set_data(layer->base->weight.detach().contiguous(at::MemoryFormat::ChannelsLast));
  CHECK_THROWS_AS(layer->merge(), shape_error);
  CHECK(layer->forward(torch::randn({1, 4, 5, 5})).size(1) == 6);
}

TEST_CASE("libtorch: an embedding's gradients are autograd's of the plain formula") {
  torch::manual_seed(2);
  std::optional<std::int64_t> padding;
  SECTION("plain") {}
  SECTION("with a padding id") { padding = 4; }
  SECTION("with one counted from the end") { padding = -1; }
  torch::nn::EmbeddingOptions options(9, 6);
  if (padding) options.padding_idx(*padding);
  lora_embedding<> layer(torch::nn::Embedding(options), 2, classic_scaling{.alpha = 6});
  fill_factors(*layer);
  auto const ids = torch::tensor({{1, 4, 4}, {8, 0, 1}}, at::kLong);
  auto const w = double_leaf(layer->base->weight), a = double_leaf(layer->lora_a()), b = double_leaf(layer->lora_b());
  auto const at_padding = padding ? (*padding < 0 ? *padding + 9 : *padding) : -1;
  auto const expected =
      at::embedding(w, ids, at_padding) + 3 * torch::matmul(at::embedding(a.t(), ids, at_padding), b.t());
  auto const dy = torch::randn_like(expected);
  expected.backward(dy);
  auto const y = layer->forward(ids);
  y.backward(dy.to(at::kFloat));
  CHECK(relative_error(y, expected) < 1e-6);
  CHECK(relative_error(layer->lora_a().grad(), a.grad()) < 1e-6);
  CHECK(relative_error(layer->lora_b().grad(), b.grad()) < 1e-6);
  CHECK(relative_error(layer->forward(ids.to(at::kInt)), expected) < 1e-6);

  cpu be(1);
  dense_gradient<cpu> dw(be, 6, 9);
  layer->collect(dw);
  layer->forward(ids).backward(dy.to(at::kFloat));
  layer->stop();
  auto mean = torch::zeros({6, 9});
  dw.estimate(be, libtorch::view<float>(mean));
  CHECK(relative_error(mean.t(), w.grad()) < 1e-6);

  auto const before = layer->forward(ids).detach().clone();
  layer->merge();
  CHECK(relative_error(layer->base->forward(ids), before) < 1e-6);
}

TEST_CASE("libtorch: embeddings that an adapter cannot follow are refused") {
  using options = torch::nn::EmbeddingOptions;
  CHECK_THROWS_AS(lora_embedding<>(torch::nn::Embedding(options(9, 6).max_norm(1.)), 2), value_error);
  CHECK_THROWS_AS(lora_embedding<>(torch::nn::Embedding(options(9, 6).sparse(true)), 2), value_error);
  CHECK_THROWS_AS(lora_embedding<>(torch::nn::Embedding(options(9, 6).scale_grad_by_freq(true)), 2), value_error);
  CHECK_THROWS_AS(lora_embedding<>(torch::nn::Embedding(9, 6), 2, classic_scaling{}, {.dropout = 0.1}), value_error);
}

TEST_CASE("libtorch: layers of three kinds start together") {
  torch::manual_seed(3);
  struct mixed : torch::nn::Module {
    lora_embedding<> words{nullptr};
    lora_conv2d<> filter{nullptr};
    libtorch::lora_linear<> head{nullptr};
    mixed() {
      words = register_module("words", lora_embedding<>(torch::nn::Embedding(11, 12), 2));
      filter = register_module("filter", lora_conv2d<>(torch::nn::Conv2d(1, 8, 3), 2));
      head = register_module("head", libtorch::lora_linear<>(torch::nn::Linear(8 * 4 * 10, 7), 2));
    }
    at::Tensor forward(at::Tensor const& ids) {  // 6 ids make an image of 6x12
      return head->forward(filter->forward(words->forward(ids).unsqueeze(1)).relu().flatten(1));
    }
  } net;
  auto const ids = torch::randint(11, {16, 6}, at::kLong);
  libtorch::gradient_collection<incremental_gradient<cpu>> estimate(net, {.rank = 2});
  auto const before = net.forward(ids);
  before.pow(2).sum().backward();
  libtorch::initialise(estimate, lora_ga_init{.gamma = 32}, in_place_anchor{});
  CHECK(relative_error(net.forward(ids), before) < 2e-5);
  net.forward(ids).pow(2).sum().backward();
  for (auto const& l : libtorch::adapted_layers(net)) CHECK(l.module->lora_a().grad().abs().sum().item<float>() > 0);
}
