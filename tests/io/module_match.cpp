#include <loraga/io/module_match.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

namespace {
using names = std::vector<std::string>;

struct base_of {
  test::folder folder;
  safetensors_model model;
  static std::filesystem::path written(test::folder const& folder, names const& list) {
    test::named_weights w;
    for (auto const& n : list) w.push_back({n, test::host(1, 1)});
    test::write_model(folder / "m", w);
    return folder / "m";
  }
  explicit base_of(names const& list) : model(written(folder, list)) {}
};
std::string found(names const& base, names const& required, names const& optional = {}) {
  base_of const b(base);
  auto const match = match_modules(b.model, required, optional);
  std::string text;
  for (auto const& [name, there] : match.names) text += (text.empty() ? "" : " ") + there;
  return text;
}
std::string refusal(names const& base, names const& required) {
  return test::message_of([&] { found(base, required); });
}
}  // namespace

TEST_CASE("leading words are changed by the first change that fits", "[io]") {
  std::vector<name_change> const changes{{"model.language_model", "model"}, {"model", ""}, {"x", "y.z"}};
  CHECK(renamed("model.language_model.layers.0", changes) == "model.layers.0");
  CHECK(renamed("model.lm_head", changes) == "lm_head");
  CHECK(renamed("models.q", changes) == "models.q");  // words, not letters
  CHECK(renamed("x", changes) == "y.z");
  CHECK(renamed("x.q", changes) == "y.z.q");
  CHECK(renamed("q", {{"", "bert"}}) == "bert.q");
}

TEST_CASE("modules are found under more, fewer and other leading words", "[io]") {
  CHECK(found({"model.layers.0.q.weight"}, {"layers.0.q.weight"}) == "model.layers.0.q.weight");
  CHECK(found({"layers.0.q.weight"}, {"model.layers.0.q.weight"}) == "layers.0.q.weight");
  CHECK(found({"model.layers.0.q.weight"}, {"model.language_model.layers.0.q.weight"}) == "model.layers.0.q.weight");
  CHECK(found({"language_model.model.layers.0.q.weight", "vision_tower.layers.0.q.weight"},
              {"model.language_model.layers.0.q.weight"}) == "language_model.model.layers.0.q.weight");
  CHECK(found({"bert.encoder.layer.0.query.weight"}, {"encoder.layer.0.query.weight"}) ==
        "bert.encoder.layer.0.query.weight");
  CHECK(refusal({"a.model.layers.0.q.weight", "b.model.layers.0.q.weight"}, {"model.x.layers.0.q.weight"}) != "");
  // each part of a model may have its own change
  CHECK(found({"visual.blocks.0.qkv.weight", "model.layers.0.q.weight"},
              {"model.visual.blocks.0.qkv.weight", "model.language_model.layers.0.q.weight"}) ==
        "model.layers.0.q.weight visual.blocks.0.qkv.weight");
}

TEST_CASE("what is not certain is refused with what comes near and the way out", "[io]") {
  names const towers{"text.layers.0.q.weight", "vision.layers.0.q.weight"};
  CHECK_THAT(refusal(towers, {"layers.0.q.weight"}), Catch::Contains("2 end alike") && Catch::Contains("--rename"));
  // one layer that would be another's number
  CHECK_THAT(refusal({"layer.0.attention.query.weight"}, {"layer.5.attention.query.weight"}),
             Catch::Contains("another part"));
  CHECK_THAT(refusal({"vision_model.layers.0.q.weight"}, {"text_model.layers.0.q.weight"}),
             Catch::Contains("another part"));
  CHECK_THAT(refusal({"decoder.layers.0.q.weight"}, {"layers.0.q.weight"}), Catch::Contains("another part"));
  CHECK_THAT(refusal({"mlp.experts.0.up.weight"}, {"mlp.up.weight"}), Catch::Contains("another part"));
  // all or none
  CHECK_THAT(refusal({"m.layers.0.q.weight"}, {"layers.0.q.weight", "layers.1.q.weight"}),
             Catch::Contains("layers.1.q"));
  // two for one
  CHECK_THAT(refusal({"m.layers.0.q.weight"}, {"a.layers.0.q.weight", "b.layers.0.q.weight"}),
             Catch::Contains("already"));
  // one change of leading words, not two
  CHECK_THAT(refusal({"m.layers.0.q.weight", "n.layers.1.q.weight"}, {"layers.0.q.weight", "layers.1.q.weight"}),
             Catch::Contains("for certain"));
  CHECK_THAT(refusal({"x.weight"}, {"weight"}), Catch::Contains("not in"));
  CHECK_THAT(refusal({"model.layers.0.q.qweight", "norm.weight"}, {"layers.0.q.weight"}), Catch::Contains("GPTQ"));
}

TEST_CASE("a new head is looked up where the others' change fits it, and is new elsewhere", "[io]") {
  names const base{"model.layers.0.q.weight", "model.layers.0.out_proj.weight", "model.embed.weight"};
  CHECK(found(base, {"layers.0.q.weight"}, {"classifier.weight", "classifier.out_proj.weight"}) ==
        "model.layers.0.q.weight");
  CHECK(found(base, {"layers.0.q.weight"}, {"embed.weight"}) == "model.embed.weight model.layers.0.q.weight");
  CHECK(found(base, {"model.language_model.layers.0.q.weight"}, {"model.language_model.embed.weight"}) ==
        "model.embed.weight model.layers.0.q.weight");
}

TEST_CASE("forty thousand names are matched in a moment", "[io]") {
  names base, adapter;
  for (int i = 0; i < 40000; ++i) {
    auto const name = "layers." + std::to_string(i / 400) + ".experts." + std::to_string(i % 400) + ".up_proj.weight";
    base.push_back("model." + name);
    adapter.push_back("model.language_model." + name);
  }
  base_of const b(base);
  auto const match = match_modules(b.model, adapter);
  CHECK(match.names.size() == 40000);
  CHECK(match.changes.size() == 1);
}
