#include "support.hpp"
#include "support/folder.hpp"

using namespace loraga;
using namespace libtorch_tests;

namespace {

struct tagger : torch::nn::Module {
  libtorch::lora_embedding<> words{nullptr};
  libtorch::lora_linear<> body{nullptr};
  torch::nn::Linear head{nullptr};
  explicit tagger(std::uint64_t seed, index_t rank = 2) {
    torch::manual_seed(7);  // one base
    words = register_module("words", libtorch::lora_embedding<>(torch::nn::Embedding(11, 12), rank));
    body = register_module("body", libtorch::lora_linear<>(torch::nn::Linear(12, 10), rank));
    head = register_module("head", torch::nn::Linear(10, 3));
    for (auto& p : head->parameters()) p.set_requires_grad(false);
    torch::manual_seed(seed);
  }
  at::Tensor forward(at::Tensor const& ids) { return head->forward(body->forward(words->forward(ids)).relu()); }
};

}  // namespace

TEST_CASE("libtorch: a model's adapters go to a PEFT folder and back") {
  test::folder const folder;
  auto const ids = torch::randint(11, {4, 6}, at::kLong);
  tagger net(1);
  SECTION("as they are") {
    fill_factors(*net.words), fill_factors(*net.body);
    libtorch::save_peft(folder.path, net, {.rank_stable = true, .may_replace = overwrite::yes});
    tagger other(2);
    libtorch::load_peft(folder.path, other);
    CHECK(relative_error(other.forward(ids), net.forward(ids)) < 1e-6);
    auto const records = load_peft(folder.path).records;
    REQUIRE(records.size() == 2);
    CHECK(records[0].module == "body");
    CHECK(records[1].layer.form == layer_form::embedding);
    other.forward(ids).sum().backward();
    CHECK(other.body->lora_b().grad().abs().sum().item<float>() > 0);
  }
  SECTION("anchored, for the base there was: twice the rank") {
    libtorch::initialise(net, pissa_init{}, in_place_anchor{});
    {
      at::NoGradGuard const off;
      net.body->lora_b().mul_(1.5);
    }
    libtorch::save_peft(
        folder.path, net,
        {.profile = peft_profile::portable, .base = peft_base::original, .may_replace = overwrite::yes});
    struct wider : tagger {
      wider() : tagger(2, 4) {}
    } other;
    CHECK_THROWS_AS(libtorch::load_peft(folder.path, other), value_error);  // of another scale
    auto records = load_peft(folder.path).records;
    for (auto& r : records) {
      double const s = other.body->scale();
      for (auto& x : r.b.values) x = static_cast<float>(x * r.scale / s);
      r.scale = s;
    }
    libtorch::put_records(records, other);
    CHECK(relative_error(other.forward(ids), net.forward(ids)) < 1e-5);
  }
}

TEST_CASE("libtorch: records and layers that do not belong together are refused before any change") {
  tagger net(1), other(2);
  fill_factors(*net.words), fill_factors(*net.body);
  auto records = libtorch::take_records(net);
  CHECK_THROWS_AS(libtorch::take_records(*net.head), state_error);
  SECTION("one too few") { records.pop_back(); }
  SECTION("one too many") {
    records.push_back(records[0]);
    records.back().module = "unknown";
  }
  SECTION("of another kind") { records[0].layer = {}; }
  CHECK_THROWS_AS(libtorch::put_records(records, other), state_error);
  CHECK(!other.body->started());
}

TEST_CASE("libtorch: the base goes to a safetensors file under its own names") {
  test::folder const folder;
  auto const path = folder.path / "model.safetensors";
  tagger net(1);
  fill_factors(*net.words), fill_factors(*net.body);
  auto const ids = torch::randint(11, {4, 6}, at::kLong);
  auto const expected = net.forward(ids).detach().clone();
  libtorch::merge(net);
  libtorch::save_base(path, net);
  safetensors_file const file(path);
  std::vector<std::string> names;
  for (auto const& t : file.tensors()) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"body.bias", "body.weight", "head.bias", "head.weight", "words.weight"});
  auto const tensor = [&](std::string const& name) {
    auto const t = file[name];
    return torch::from_blob(const_cast<std::byte*>(t.bytes.data()), at::IntArrayRef(t.shape)).clone();
  };
  auto const h = torch::addmm(tensor("body.bias"), at::embedding(tensor("words.weight"), ids.flatten()),
                              tensor("body.weight").t());
  auto const y = torch::addmm(tensor("head.bias"), h.relu(), tensor("head.weight").t());
  CHECK(relative_error(y.view({4, 6, 3}), expected) < 1e-5);
  CHECK_THROWS_AS(libtorch::save_base(path, net), file_error);
}
