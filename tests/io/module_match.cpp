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
  // each part of a model may have its own change
  CHECK(found({"visual.blocks.0.qkv.weight", "model.layers.0.q.weight"},
              {"model.visual.blocks.0.qkv.weight", "model.language_model.layers.0.q.weight"}) ==
        "model.layers.0.q.weight visual.blocks.0.qkv.weight");
}

TEST_CASE("what is not certain is refused with what comes near and the way out", "[io]") {
  names const towers{"text_model.layers.0.q.weight", "model.layers.0.q.weight"};
  CHECK_THAT(refusal(towers, {"layers.0.q.weight"}), Catch::Contains("2 end alike") && Catch::Contains("--rename"));
  // what differs tells one part of a model from another
  std::pair<char const*, char const*> const apart[] = {{"layer.0.attention.query", "layer.5.attention.query"},
                                                       {"vision_model.layers.0.q", "text_model.layers.0.q"},
                                                       {"decoder.layers.0.q", "layers.0.q"},
                                                       {"mlp.experts.0.up", "mlp.up"},
                                                       {"model.layers.0.mlp.shared_expert.up", "model.layers.0.mlp.up"},
                                                       {"model.layers.0.cross_attn.q", "model.layers.0.self_attn.q"},
                                                       {"model.mtp.layers.1.q", "model.layers.1.q"},
                                                       {"draft_model.layers.0.q", "model.layers.0.q"},
                                                       {"model.q_former.layers.0.q", "model.language_model.layers.0.q"},
                                                       {"talker.layers.0.q", "thinker.layers.0.q"},
                                                       {"query_tower.layers.0.q", "passage_tower.layers.0.q"},
                                                       {"text_encoder.layers.0.q", "text_encoder_2.layers.0.q"},
                                                       {"transformer.layers.0.q", "text_encoder.layers.0.q"}};
  for (auto const& [base, adapter] : apart) {
    INFO(base << " for " << adapter);
    CHECK_THAT(refusal({base + std::string(".weight")}, {adapter + std::string(".weight")}),
               Catch::Contains("another part"));
  }
  // all or none
  CHECK_THAT(refusal({"model.layers.0.q.weight"}, {"layers.0.q.weight", "layers.1.q.weight"}),
             Catch::Contains("layers.1.q"));
  // two for one
  CHECK_THAT(refusal({"layers.0.q.weight"}, {"model.layers.0.q.weight", "bert.layers.0.q.weight"}),
             Catch::Contains("already"));
  // one change of leading words, not two
  CHECK_THAT(refusal({"model.layers.0.q.weight", "bert.layers.1.q.weight"}, {"layers.0.q.weight", "layers.1.q.weight"}),
             Catch::Contains("for certain"));
  CHECK_THAT(refusal({"x.weight"}, {"weight"}), Catch::Contains("not in"));
  CHECK_THAT(refusal({"model.layers.0.q.qweight", "norm.weight"}, {"layers.0.q.weight"}), Catch::Contains("GPTQ"));
}

TEST_CASE("the name of the base's own kind of model is a wrapper's word", "[io]") {
  base_of const b({"xlm_roberta.layer.0.q.weight"});
  CHECK_THROWS_AS(match_modules(b.model, {"layer.0.q.weight"}), value_error);
  CHECK(match_modules(b.model, {"layer.0.q.weight"}, {}, {"xlm-roberta"}).names.size() == 1);
}

TEST_CASE("a new head is looked up where the others' change fits it, and is new elsewhere", "[io]") {
  names const base{"model.layers.0.q.weight", "model.layers.0.out_proj.weight", "model.embed.weight"};
  CHECK(found(base, {"layers.0.q.weight"}, {"classifier.weight", "classifier.out_proj.weight"}) ==
        "model.layers.0.q.weight");
  CHECK(found(base, {"layers.0.q.weight"}, {"embed.weight"}) == "model.embed.weight model.layers.0.q.weight");
  CHECK(found(base, {"model.language_model.layers.0.q.weight"}, {"model.language_model.embed.weight"}) ==
        "model.embed.weight model.layers.0.q.weight");
  CHECK(found({"model.layers.0.q.weight", "pooler.classifier.weight"}, {"layers.0.q.weight"}, {"classifier.weight"}) ==
        "model.layers.0.q.weight");
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
