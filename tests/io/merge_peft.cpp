#include <loraga/cpu.hpp>
#include <loraga/io/merge_peft.hpp>

#include "../support/catch.hpp"
#include "adapter_folders.hpp"

using namespace loraga;
using test::factors;
using test::host;

namespace {

std::string const key = "base_model.model.";

/// A base's folder, adapters beside it, and what a merge makes of them.
struct merging {
  test::folder folder;
  std::vector<weighted_peft> adapters;
  peft_merge_options options;

  void base(test::named_weights const& weights, std::string const& config = R"({"model_type":"llama"})") {
    std::filesystem::remove_all(folder / "base");
    test::write_model_folder(folder / "base", weights, config);
    adapters.clear();
  }
  void add(test::named_weights const& tensors, std::string const& config = {}, double weight = 1) {
    auto const to = folder / ("adapter" + std::to_string(adapters.size()));
    adapters.push_back({load_peft(test::write_adapter(to, tensors, config), {}, whole_layers::take), weight});
  }
  /// All that it says, in one text.
  std::string run(double sign = 1) {
    std::filesystem::remove_all(folder / "merged");
    loraga::cpu be(1);
    std::string text;
    for (auto const& note :
         merge_peft(be, safetensors_model(folder / "base"), folder / "merged", adapters, sign, options))
      text += note + "\n";
    return text;
  }
  std::string refusal(double sign = 1) {
    auto const said = test::message_of([&] { run(sign); });
    CHECK(!std::filesystem::exists(folder / "merged"));
    return said;
  }
  host merged(std::string const& name) const { return test::read(folder / "merged", name); }
  bool has(std::string const& name) const { return safetensors_model(folder / "merged").contains(name); }
  nlohmann::json config() const { return nlohmann::json::parse(test::read_file(folder / "merged" / "config.json")); }
};

host const q = test::random(5, 4, 1), words = test::random(6, 4, 2), head = test::random(6, 4, 3);
std::string const q_name = "model.layers.0.q_proj.weight", words_name = "model.embed_tokens.weight";
factors const on_q("model.layers.0.q_proj", 5, 4, 10), on_head("lm_head", 6, 4, 20),
    on_words("model.embed_tokens", 4, 6, 30);
std::string const tied = R"({"model_type":"llama","tie_word_embeddings":true,"vocab_size":6})";

}  // namespace

TEST_CASE("names with other leading words are merged, and it is said", "[io]") {
  merging m;
  m.base({{"language_model." + q_name, q}, {"language_model.lm_head.weight", head}});
  m.add(on_q.tensors() + on_head.tensors());
  auto const said = m.run();
  CHECK_THAT(said, Catch::Contains("'' in the adapter is 'language_model' in the base"));
  CHECK(test::distance(m.merged("language_model." + q_name), q + on_q.change()) < 1e-5);
  CHECK(test::distance(m.merged("language_model.lm_head.weight"), head + on_head.change()) < 1e-5);
}

TEST_CASE("two adapters may name one module differently", "[io]") {
  merging m;
  m.base({{q_name, q}});
  factors const bare("layers.0.q_proj", 5, 4, 40);
  m.add(on_q.tensors());
  m.add(bare.tensors());
  m.run();
  CHECK(test::distance(m.merged(q_name), q + on_q.change() + bare.change()) < 1e-5);
}

TEST_CASE("layers that an adapter holds whole are copied, in the base's type; new ones are added", "[io]") {
  merging m;
  m.base({{q_name, q}, {words_name, words}, {"lm_head.weight", head}});
  auto const new_head = test::random(6, 4, 7), score = test::random(2, 4, 8);
  m.add(on_q.tensors() + test::named_weights{{key + "lm_head.weight", new_head}, {key + "score.weight", score}},
        R"(,"modules_to_save":["score","lm_head"])");
  auto const said = m.run();
  CHECK_THAT(said, Catch::Contains("replaced: lm_head.weight") && Catch::Contains("added: score.weight"));
  CHECK(test::distance(m.merged("lm_head.weight"), new_head) < 1e-6);
  CHECK(test::distance(m.merged("score.weight"), score) < 1e-6);
  CHECK(test::distance(m.merged(words_name), words) < 1e-6);
  CHECK(test::distance(m.merged(q_name), q + on_q.change()) < 1e-5);

  SECTION("a name that the base lacks is added only if it is a head") {
    for (auto const* name : {"model.layers.0.mlp.gate.weight", "model.final_norm.weight", "other.weight"}) {
      m.adapters.clear();
      m.add(on_q.tensors() + test::named_weights{{key + name, score}}, R"(,"modules_to_save":["gate","final_norm"])");
      CHECK_THAT(m.refusal(), Catch::Contains("no head of modules_to_save"));
    }
  }
  SECTION("the base's own, saved beside factors, undoes nothing") {
    m.base({{q_name, q}, {"lm_head.weight", head}});
    m.add(on_head.tensors() + test::named_weights{{key + "lm_head.base_layer.weight", new_head}}, "", 0.5);
    CHECK_THAT(m.run(), Catch::Contains("stays the base's"));
    CHECK(test::distance(m.merged("lm_head.weight"), head + 0.5 * on_head.change()) < 1e-5);
    m.run(-1);
    CHECK(test::distance(m.merged("lm_head.weight"), head - 0.5 * on_head.change()) < 1e-5);
  }
  SECTION("but a bias of an adapted layer was trained") {
    auto const bias = test::random(5, 1, 9);
    m.base({{q_name, q}, {"model.layers.0.q_proj.bias", test::random(5, 1, 8)}});
    m.add(on_q.tensors() + test::named_weights{{key + "model.layers.0.q_proj.base_layer.bias", bias}},
          R"(,"bias":"lora_only")");
    m.run();
    CHECK(test::distance(m.merged("model.layers.0.q_proj.bias"), bias) < 1e-6);
    m.adapters[0].weight = 0.5;
    CHECK_THAT(m.refusal(), Catch::Contains("weight 1"));
  }
  SECTION("not onto a quantised base") {
    m.base({{q_name, q}, {"lm_head.qweight", head}});
    m.add(on_q.tensors() + test::named_weights{{key + "lm_head.weight", new_head}});
    CHECK_THAT(m.refusal(), Catch::Contains("quantised: GPTQ"));
  }
  SECTION("a base of 16 bits stays one") {
    std::filesystem::remove(m.folder / "base" / "model.safetensors");
    test::write_model(m.folder / "base" / "model.safetensors", {{q_name, q}, {"lm_head.weight", head}}, dtype::BF16);
    m.run();
    safetensors_model const merged(m.folder / "merged");
    CHECK(merged["lm_head.weight"].type == dtype::BF16);
    CHECK(merged["score.weight"].type == dtype::F32);
    CHECK(test::distance(m.merged("lm_head.weight"), new_head) < 0.02);
  }
}

TEST_CASE("a larger vocabulary goes into weights and config.json alike", "[io]") {
  merging m;
  auto const more_words = test::random(9, 4, 7), more_head = test::random(9, 4, 8);
  m.base({{q_name, q}, {words_name, words}, {"lm_head.weight", head}},
         R"({"model_type":"llama","tie_word_embeddings":false,"vocab_size":6})");
  m.add(on_q.tensors() + test::named_weights{{key + words_name, more_words}, {key + "lm_head.weight", more_head}});
  CHECK_THAT(m.run(), Catch::Contains("vocab_size 6 is now 9"));
  CHECK(test::distance(m.merged("lm_head.weight"), more_head) < 1e-6);
  CHECK(m.config()["vocab_size"] == 9);
  m.adapters.clear();
  m.add(on_q.tensors() + test::named_weights{{key + words_name, more_words}});
  CHECK_THAT(m.refusal(), Catch::Contains("as many for the vocabulary everywhere"));
  m.adapters.clear();
  m.add(on_q.tensors() + test::named_weights{{key + words_name, test::random(6, 5, 1)}});
  CHECK_THAT(m.refusal(), Catch::Contains("but for the rows"));
  // a tied one is resized once, for both
  m.base({{q_name, q}, {words_name, words}}, tied);
  m.add(on_q.tensors() + test::named_weights{{key + words_name, more_words}});
  CHECK_THAT(m.run(), Catch::Contains("once, for both"));
  CHECK(m.config()["vocab_size"] == 9);
  CHECK(m.config()["tie_word_embeddings"] == true);
  CHECK(!m.has("lm_head.weight"));
}

TEST_CASE("a resized vocabulary that is tied: who changes gets its own, both get the new rows", "[io]") {
  merging m;
  auto const more = test::random(9, 4, 7);
  factors const words9("model.embed_tokens", 4, 9, 30), head9("lm_head", 9, 4, 20);
  m.base({{q_name, q}, {words_name, words}}, tied);
  m.add(words9.embedding_tensors() + test::named_weights{{key + "model.embed_tokens.base_layer.weight", more}});
  m.run();
  CHECK(test::distance(m.merged(words_name), more + test::transpose(words9.change())) < 1e-5);
  CHECK(test::distance(m.merged("lm_head.weight"), more) < 1e-6);
  CHECK(m.config()["vocab_size"] == 9);
  m.adapters.clear();
  m.add(head9.tensors() + test::named_weights{{key + "lm_head.base_layer.weight", more}});
  m.run();
  CHECK(test::distance(m.merged(words_name), more) < 1e-6);
  CHECK(test::distance(m.merged("lm_head.weight"), more + head9.change()) < 1e-5);
  CHECK(m.config()["vocab_size"] == 9);
  m.adapters.clear();  // trained, resized, and nothing said of the head
  m.add(on_q.tensors() + test::named_weights{{key + words_name, more}}, R"(,"modules_to_save":["embed_tokens"])");
  CHECK_THAT(m.refusal(), Catch::Contains("9 rows, the head 6"));
}

TEST_CASE("a number for each word must be as many as there are words", "[io]") {
  merging m;
  m.base({{q_name, q}, {words_name, words}, {"cls.predictions.bias", test::random(6, 1, 4)}}, R"({"vocab_size":6})");
  m.add(on_q.tensors() + test::named_weights{{key + words_name, test::random(9, 4, 7)}});
  CHECK_THAT(m.refusal(), Catch::Contains("cls.predictions.bias"));
}

TEST_CASE("other weights in the folder would be taken for the model's", "[io]") {
  merging m;
  m.base({{q_name, q}});
  m.add(on_q.tensors());
  std::filesystem::create_directories(m.folder / "merged");
  test::write_model(m.folder / "merged" / "old.safetensors", {{"old", q}});
  loraga::cpu be(1);
  CHECK_THROWS_WITH(merge_peft(be, safetensors_model(m.folder / "base"), m.folder / "merged", m.adapters, 1,
                               {.may_replace = overwrite::yes}),
                    Catch::Contains("holds old.safetensors"));
}

TEST_CASE("whole layers have no part, no difference, and no way back", "[io]") {
  merging m;
  test::named_weights const base{{q_name, q}, {"lm_head.weight", head}};
  auto const with_head = [&](std::uint64_t seed) {
    return on_q.tensors() + test::named_weights{{key + "lm_head.weight", test::random(6, 4, seed)}};
  };
  m.base(base);
  m.add(with_head(7));
  CHECK_THAT(m.refusal(-1), Catch::Contains("is not in the adapter"));
  m.add(with_head(8));
  CHECK_THAT(m.refusal(), Catch::Contains("not the same"));
  m.adapters.clear();
  m.add(with_head(7));
  m.add(with_head(7));
  m.run();  // the same in both
  m.adapters[1].weight = 0.5;
  CHECK_THAT(m.refusal(), Catch::Contains("weight 1"));
}

TEST_CASE("a tied embedding and its head become two where an adapter changes one", "[io]") {
  merging m;
  m.base({{q_name, q}, {words_name, words}}, tied);
  m.add(on_words.embedding_tensors());
  CHECK_THAT(m.run(), Catch::Contains("tied no more"));
  CHECK(test::distance(m.merged(words_name), words + test::transpose(on_words.change())) < 1e-5);
  CHECK(test::distance(m.merged("lm_head.weight"), words) < 1e-6);
  CHECK(m.config()["tie_word_embeddings"] == false);

  m.adapters.clear();
  m.add(on_head.tensors());
  m.run();
  CHECK(test::distance(m.merged(words_name), words) < 1e-6);
  CHECK(test::distance(m.merged("lm_head.weight"), words + on_head.change()) < 1e-5);

  m.adapters.clear();
  m.add(on_head.tensors() + on_words.embedding_tensors());
  m.run();
  CHECK(test::distance(m.merged(words_name), words + test::transpose(on_words.change())) < 1e-5);
  CHECK(test::distance(m.merged("lm_head.weight"), words + on_head.change()) < 1e-5);

  m.options.tied = tied_weights::share;
  m.run();
  CHECK(test::distance(m.merged(words_name), words + test::transpose(on_words.change()) + on_head.change()) < 1e-5);
  CHECK(!m.has("lm_head.weight"));
  CHECK(m.config()["tie_word_embeddings"] == true);

  m.options.tied.reset();
  CHECK_THAT(m.refusal(-1), Catch::Contains("--tied"));
  m.adapters.clear();
  m.add(on_q.tensors());
  m.run();  // neither of them changes
  CHECK(!m.has("lm_head.weight"));
  CHECK(m.config()["tie_word_embeddings"] == true);
}

TEST_CASE("a tied pair that changes alike stays one", "[io]") {
  merging m;
  m.base({{q_name, q}, {words_name, words}}, tied);
  factors same("lm_head", 6, 4, 1);  // what PEFT's ensure_weight_tying saves
  same.a = test::transpose(on_words.b);
  same.b = test::transpose(on_words.a);
  m.add(same.tensors() + on_words.embedding_tensors(), R"(,"ensure_weight_tying":true)");
  CHECK_THAT(m.run(), Catch::Contains("once, for both"));
  CHECK(test::distance(m.merged(words_name), words + same.change()) < 1e-5);
  CHECK(!m.has("lm_head.weight"));
  m.adapters.clear();  // the same factors, at another scale
  m.add(same.tensors() + on_words.embedding_tensors(), R"(,"alpha_pattern":{"lm_head":8})");
  m.run();
  CHECK(test::distance(m.merged(words_name), words + same.change()) < 1e-5);
  CHECK(test::distance(m.merged("lm_head.weight"), words + 2.0 * same.change()) < 1e-5);
  m.adapters.clear();
  auto const trained = test::random(6, 4, 9);
  m.add(on_q.tensors() + test::named_weights{{key + words_name, trained}, {key + "lm_head.weight", trained}});
  m.run();
  CHECK(test::distance(m.merged(words_name), trained) < 1e-6);
  CHECK(!m.has("lm_head.weight"));
  // and one that was trained apart does not
  m.adapters.clear();
  m.add(on_q.tensors() + test::named_weights{{key + "lm_head.weight", trained}});
  m.run();
  CHECK(test::distance(m.merged(words_name), words) < 1e-6);
  CHECK(test::distance(m.merged("lm_head.weight"), trained) < 1e-6);
  CHECK(m.config()["tie_word_embeddings"] == false);
}

TEST_CASE("ties that cannot be opened are refused, and heads that are none are unknown", "[io]") {
  merging m;
  m.base({{"shared.weight", words}, {"decoder.q.weight", q}},
         R"({"architectures":["T5ForConditionalGeneration"],"vocab_size":6})");
  m.add(factors("shared", 4, 6, 1).embedding_tensors());
  CHECK_THAT(m.refusal(), Catch::Contains("--tied share"));
  m.adapters.clear();
  m.add(on_head.tensors());
  CHECK_THAT(m.refusal(), Catch::Contains("--tied share"));
  m.base({{"bert.embeddings.word_embeddings.weight", words}},
         R"({"architectures":["BertForMaskedLM"],"vocab_size":6,"tie_word_embeddings":true})");
  m.add(factors("cls.predictions.decoder", 6, 4, 1).tensors());
  CHECK_THAT(m.refusal(), Catch::Contains("--tied share"));  // its bias is tied as well
  m.base({{q_name, q}, {words_name, words}}, R"({"tie_word_embeddings":false})");
  m.add(on_head.tensors());
  CHECK_THAT(m.refusal(), Catch::Contains("lm_head.weight") && Catch::Contains("--rename"));
  m.base({{q_name, q}, {words_name, words}}, "");
  m.add(on_words.embedding_tensors());
  CHECK_THAT(m.run(), Catch::Contains("no config.json"));
}

TEST_CASE("square Conv1D weights are merged as config.json says", "[io]") {
  merging m;
  auto const w = test::random(4, 4, 5);
  factors const f("transformer.h.0.attn.c_proj", 4, 4, 6);
  for (bool const flag : {false, true}) {
    m.base({{"h.0.attn.c_proj.weight", w}}, R"({"model_type":"gpt2"})");
    m.add(f.tensors(), flag ? R"(,"fan_in_fan_out":true)" : "");
    m.run();
    CHECK(test::distance(m.merged("h.0.attn.c_proj.weight"), w + test::transpose(f.change())) < 1e-5);
  }
  m.base({{"h.0.attn.c_proj.weight", w}}, R"({"model_type":"gpt_bigcode"})");
  m.add(f.tensors());
  m.run();
  CHECK(test::distance(m.merged("h.0.attn.c_proj.weight"), w + f.change()) < 1e-5);
  m.base({{"h.0.attn.c_proj.weight", w}}, "");
  m.add(f.tensors());
  CHECK_THAT(m.refusal(), Catch::Contains("not certain"));
  m.options.fan_in_fan_out = true;
  m.run();
  CHECK(test::distance(m.merged("h.0.attn.c_proj.weight"), w + test::transpose(f.change())) < 1e-5);
}

TEST_CASE("indices, their names and what they list survive a merge", "[io]") {
  merging m;
  auto const base = m.folder / "base";
  std::filesystem::create_directories(base);
  test::write_model(base / "x-1.safetensors", {{q_name, q}, {"stale", head}});
  test::write_model(base / "x-2.safetensors", {{words_name, words}});
  test::write_file(base / "x.safetensors.index.json", R"({"weight_map":{")" + q_name + R"(":"x-1.safetensors",")" +
                                                          words_name + R"(":"x-2.safetensors"}})");
  test::write_file(base / "config.json", tied);
  m.add(on_q.tensors() + on_head.tensors());
  CHECK_THAT(m.run(), Catch::Contains("1 tensors") && Catch::Contains("stale"));
  for (auto const* name : {"x-1.safetensors", "x-2.safetensors", "x.safetensors.index.json", "config.json"})
    CHECK(std::filesystem::exists(m.folder / "merged" / name));
  safetensors_model const merged(m.folder / "merged");
  CHECK(merged.names() == std::vector<std::string>{"lm_head.weight", words_name, q_name});
  CHECK(merged.left_aside().empty());
  auto const index = nlohmann::json::parse(test::read_file(m.folder / "merged" / "x.safetensors.index.json"));
  CHECK(index["metadata"]["total_size"] == 4 * (q.data.size() + 2 * words.data.size()));
}

TEST_CASE("a config.json that would have to change is not left as it is", "[io]") {
  merging m;
  m.base({{q_name, q}, {words_name, words}}, tied);
  m.add(on_head.tensors());
  std::filesystem::create_directories(m.folder / "merged");
  test::write_file(m.folder / "merged" / "config.json", "{}");
  loraga::cpu be(1);
  safetensors_model const base(m.folder / "base");
  CHECK_THROWS_AS(merge_peft(be, base, m.folder / "merged", m.adapters), file_error);
  CHECK(!std::filesystem::exists(m.folder / "merged" / "model.safetensors"));
  merge_peft(be, base, m.folder / "merged", m.adapters, 1, {.may_replace = overwrite::yes});
  CHECK(m.config()["tie_word_embeddings"] == false);
}
