#include <torch/nn/modules/normalization.h>

#include <sstream>

#include "support.hpp"
#include "support/folder.hpp"

using namespace loraga;
using libtorch::lora_embedding;
using libtorch::lora_linear;
using namespace libtorch_tests;

namespace {

/// An embedding and a linear layer with adapters, a LayerNorm and a head without.
struct mixed_model : torch::nn::Module {
  lora_embedding<> words{nullptr};
  lora_linear<> body{nullptr};
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear head{nullptr};
  mixed_model() {
    torch::manual_seed(17);
    words = register_module("words", lora_embedding<>(torch::nn::Embedding(11, 12), 2));
    body = register_module("body", lora_linear<>(torch::nn::Linear(12, 12), 2));
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({12})));
    head = register_module("head", torch::nn::Linear(torch::nn::LinearOptions(12, 11).bias(false)));
  }
  void freeze_rest() {
    for (torch::nn::Module* m :
         {static_cast<torch::nn::Module*>(norm.get()), static_cast<torch::nn::Module*>(head.get())})
      for (auto& p : m->parameters()) p.set_requires_grad(false);
  }
  at::Tensor forward(at::Tensor const& ids) {
    return head->forward(norm->forward(body->forward(words->forward(ids)).relu()));
  }
};

at::Tensor few_ids() { return torch::arange(6).view({2, 3}); }

}  // namespace

TEST_CASE("libtorch: parameters outside of adapters that train are not lost by save_peft") {
  test::folder const folder;
  mixed_model net;
  fill_factors(*net.words), fill_factors(*net.body);
  peft_options const options{.may_replace = overwrite::yes};
  auto const message = test::message_of([&] { libtorch::save_peft(folder.path, net, options); });
  CHECK_THAT(message, Catch::Contains("'norm.weight', 'norm.bias', 'head.weight'"));
  CHECK_THAT(message, Catch::Contains("peft_options::whole") && Catch::Contains("other_trained::leave_out"));
  CHECK(folder.count() == 0);
  SECTION("frozen") {
    net.freeze_rest();
    libtorch::save_peft(folder.path, net, options);
  }
  SECTION("left out, because the caller says so") {
    libtorch::save_peft(folder.path, net, options, unchecked_names{}, libtorch::other_trained::leave_out);
  }
  SECTION("saved whole") {
    peft_options with = options;
    with.whole = {libtorch::whole("head.weight", net.head->weight)};
    CHECK_THROWS_WITH(libtorch::save_peft(folder.path, net, with),
                      Catch::Contains("'norm.weight', 'norm.bias'") && !Catch::Contains("'head.weight'"));
    with.whole.push_back(libtorch::whole("norm.weight", net.norm->weight));
    with.whole.push_back(libtorch::whole("norm.bias", net.norm->bias));
    libtorch::save_peft(folder.path, net, with);
    auto const back = load_peft(folder.path, {}, whole_layers::take);
    REQUIRE(back.whole.size() == 3);
    CHECK(back.whole[0].name == "head.weight");
    auto const& bytes = back.whole[0].tensor.bytes;
    CHECK(torch::from_blob(const_cast<std::byte*>(bytes.data()), {11, 12}).clone().equal(net.head->weight.detach()));
    CHECK_THROWS_AS(libtorch::whole("head.weight", net.head->weight.t()), value_error);
  }
  SECTION("a base's own bias, and adapters of other types") {
    net.freeze_rest();
    net.body->base->bias.set_requires_grad(true);
    net.register_module("wide", lora_linear<double>(
                                    [] {
                                      torch::nn::Linear l(4, 4);
                                      l->to(torch::kDouble);
                                      return l;
                                    }(),
                                    2));
    CHECK_THROWS_WITH(libtorch::save_peft(folder.path, net, options),
                      Catch::Contains("'body.bias', 'wide.lora_A <double, cpu, double>'"));
  }
}

TEST_CASE("libtorch: a weight that is tied is neither anchored in place nor merged") {
  mixed_model net;
  net.freeze_rest();
  auto const w = net.words->base->weight.detach();
  std::string other = "'head.weight'";
  SECTION("its storage") { net.head->weight.set_data(w); }
  SECTION("the member alone, as in a constructor") { net.head->weight = net.words->base->weight; }
  SECTION("a row of it") { net.head->weight.set_data(w.slice(0, 3, 4)); }
  SECTION("another adapter's base") {
    torch::nn::Linear tied(torch::nn::LinearOptions(12, 11).bias(false));
    tied->weight = net.words->base->weight;
    net.register_module("out", lora_linear<>(tied, 2));
    other = "'out.weight'";
  }
  SECTION("the same module, registered without the adapter") {
    net.register_module("bare", net.words->base);
    other = "'bare.weight'";
  }
  auto const before = w.clone();
  auto const named = Catch::Contains("W of 'words' is the memory of " + other);
  CHECK_THROWS_WITH(libtorch::initialise(net, pissa_init{}, in_place_anchor{}), named);
  {
    libtorch::gradient_collection<dense_gradient<cpu>> estimate(net);
    CHECK_THROWS_WITH(libtorch::initialise(estimate, lora_ga_init{}, in_place_anchor{}), named);
  }
  CHECK(!net.body->started());
  libtorch::initialise(net, pissa_init{}, frozen_pair_anchor{});
  CHECK_THROWS_WITH(libtorch::merge(net), named);
  CHECK(!net.body->merged());
  CHECK(w.equal(before));
  net.words->merge();  // which knows only itself
  net.body->merge();
  for (auto const& l : libtorch::adapted_layers(net))
    if (!l.module->merged()) l.module->merge();
  test::folder const folder;
  CHECK_THROWS_AS(libtorch::save_base(folder / "merged.safetensors", net), state_error);
  CHECK(folder.count() == 0);
}

TEST_CASE("libtorch: merge of a model merges all of it or nothing, and unmerge takes it out") {
  mixed_model net;
  net.freeze_rest();
  auto const ids = few_ids();
  CHECK_THROWS_AS(libtorch::merge(net), state_error);  // without a start
  fill_factors(*net.words);
  CHECK_THROWS_WITH(libtorch::merge(net), Catch::Contains("'body'"));
  CHECK(!net.words->merged());
  fill_factors(*net.body);
  net.eval();
  auto const expected = net.forward(ids).detach().clone();
  auto const w = net.body->base->weight.detach().clone();
  libtorch::merge(net);
  CHECK(relative_error(net.forward(ids), expected) < 1e-5);
  CHECK(relative_error(net.body->base->weight, w) > 1e-2);
  CHECK_THROWS_AS(libtorch::merge(net), state_error);
  libtorch::unmerge(net);
  CHECK(relative_error(net.body->base->weight, w) < 1e-5);
  CHECK_THROWS_AS(libtorch::unmerge(net), state_error);
}

TEST_CASE("libtorch: save_base writes weights that a start has changed only where the caller says so") {
  test::folder const folder;
  auto const path = folder / "base.safetensors";
  mixed_model net;
  libtorch::initialise(net, pissa_init{}, in_place_anchor{});
  CHECK_THROWS_WITH(libtorch::save_base(path, net), Catch::Contains("peft_base::anchored"));
  CHECK_THROWS_AS(libtorch::save_base(path, net, overwrite::no, peft_base::original), state_error);
  CHECK(folder.count() == 0);
  SECTION("said") {
    libtorch::save_base(path, net, overwrite::no, peft_base::anchored);
    CHECK(safetensors_file(path).tensors().size() == 6);
  }
  SECTION("merged, wholly") {
    net.body->merge();
    CHECK_THROWS_WITH(libtorch::save_base(path, net), Catch::Contains("W of 'words' is without its adapter"));
    net.words->merge();
    CHECK_THROWS_AS(libtorch::save_base(path, net, overwrite::no, peft_base::anchored), state_error);
    libtorch::save_base(path, net);
  }
}

TEST_CASE("libtorch: a base that others write under an adapter in it is refused") {
  torch::manual_seed(19);
  lora_linear<> layer(torch::nn::Linear(12, 10), 3);
  auto const x = torch::randn({5, 12});
  libtorch::initialise(*layer, pissa_init{}, in_place_anchor{});
  layer->eval();
  bool const merged = GENERATE(false, true);
  if (merged) layer->merge();
  auto const before = layer->forward(x).detach().clone();
  SECTION("by copy_") {
    {
      at::NoGradGuard const off;
      layer->base->weight.copy_(torch::randn({10, 12}));
    }
    CHECK_THROWS_WITH(layer->forward(x), Catch::Contains("written by others"));
    CHECK_THROWS_AS(libtorch::take_records(*layer), state_error);
    std::ostringstream file;
    CHECK_THROWS_AS(torch::save(layer, file), state_error);
    test::folder const folder;
    CHECK_THROWS_AS(libtorch::save_base(folder / "w", *layer, overwrite::no,
                                        merged ? std::nullopt : std::optional(peft_base::anchored)),
                    state_error);
    layer->written();  // the caller answers for it
    CHECK(layer->forward(x).size(1) == 10);
  }
  SECTION("by rounding it on a way there and back") {
    layer->to(torch::kHalf);
    layer->to(torch::kFloat);
    CHECK_THROWS_AS(layer->forward(x), state_error);
    std::ostringstream file;
    CHECK_THROWS_AS(torch::save(layer, file), state_error);
  }
  SECTION("a way that keeps the numbers is none of that") {
    layer->to(torch::kDouble);
    layer->to(torch::kFloat);
    if (merged) CHECK_THROWS_AS(layer->forward(x), state_error);  // what moves while merged cannot be followed
    else CHECK(relative_error(layer->forward(x), before) < 1e-6);
  }
  SECTION("the library's own writes are known") {
    if (merged) layer->unmerge();
    else layer->merge();
    CHECK(relative_error(layer->forward(x), before) < 1e-5);
  }
}

TEST_CASE("libtorch: before its start a model evaluates as the base, and trains not") {
  mixed_model net;
  net.freeze_rest();
  auto const ids = few_ids();
  auto const expected =
      net.head->forward(net.norm->forward(net.body->base->forward(net.words->base->forward(ids)).relu())).detach();
  {
    at::NoGradGuard const off;
    CHECK(torch::equal(net.forward(ids), expected));
  }
  CHECK_THROWS_WITH(net.forward(ids), Catch::Contains("lora_embedding: adapter is without a start") &&
                                          Catch::Contains("layer->written()") && !Catch::Contains("values_changed"));
  for (auto& p : net.parameters()) p.set_requires_grad(false);
  CHECK(torch::equal(net.forward(ids), expected));
}

TEST_CASE("libtorch: A and B written through with_adapter are a start once the layer is told") {
  torch::manual_seed(23);
  lora_linear<> layer(torch::nn::Linear(6, 5), 2);
  auto const x = torch::randn({3, 6});
  layer->with_adapter([](cpu& be, auto& ad) {
    fill(be, ad.a(), 1.f);
    fill(be, ad.b(), 0.5f);
  });
  layer->written();
  CHECK(layer->started());
  auto const part = layer->forward(x) - layer->base->forward(x);
  CHECK(relative_error(part[0][0], layer->scale() * x[0].sum()) < 1e-5);  // r*0.5 = 1
  auto const elsewhere = layer->lora_a().detach();
  layer->lora_a().set_data(3 * elsewhere);  // moved, and told before a pass finds out
  layer->written();
  CHECK(relative_error(layer->forward(x) - layer->base->forward(x), 3 * part) < 1e-5);
}

TEST_CASE("libtorch: a merged module does not train in silence") {
  torch::manual_seed(29);
  lora_linear<> layer(torch::nn::Linear(6, 5), 2);
  fill_factors(*layer);
  auto const x = torch::randn({3, 6});
  layer->merge();
  CHECK_THROWS_WITH(layer->forward(x), Catch::Contains("lora_linear: adapter is merged in a pass that trains"));
  {
    at::NoGradGuard const off;
    CHECK(torch::equal(layer->forward(x), layer->base->forward(x)));
  }
  layer->eval();
  CHECK(torch::equal(layer->forward(x), layer->base->forward(x)));
}

TEST_CASE("libtorch: what is looked for and not there is named with what is there") {
  torch::nn::Linear base(6, 5);
  base->to(torch::kBFloat16);
  torch::nn::Sequential net;
  net->push_back("body", lora_linear<float, cpu, bf16>(base, 2));
  auto const named =
      Catch::Contains("without an adapter of <float, cpu, float>, but with one of <float, cpu, bf16> ('body')");
  CHECK_THROWS_WITH(libtorch::initialise(*net, kaiming_init{}), named);
  CHECK_THROWS_WITH(libtorch::take_records(*net), named);
  CHECK_THROWS_WITH(libtorch::gradient_collection<dense_gradient<cpu>>(*net), named);
  libtorch::initialise<float, cpu, bf16>(*net, kaiming_init{});
  CHECK(libtorch::take_records<float, cpu, bf16>(*net).size() == 1);
}

TEST_CASE("libtorch: wrapping looks at the base's type, and clears a gradient that it has") {
  torch::nn::Linear wide(6, 5), base(6, 5);
  wide->to(torch::kDouble);
  CHECK_THROWS_WITH(lora_linear<>(wide, 2), Catch::Contains("lora_linear: the base's weight is of Double"));
  CHECK(wide->weight.requires_grad());
  base->forward(torch::randn({3, 6})).sum().backward();
  REQUIRE(base->weight.grad().defined());
  lora_linear<> const layer(base, 2);
  CHECK(!base->weight.grad().defined());
  CHECK(!base->bias.grad().defined());
}
