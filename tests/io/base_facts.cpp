#include <loraga/io/base_facts.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

namespace {
base_facts facts_of(std::string const& config) {
  test::folder const folder;
  test::write_model_folder(folder / "m", {{"a.weight", test::host(2, 2)}}, config);
  return base_facts(safetensors_model(folder / "m"));
}
}  // namespace

TEST_CASE("whether a head is tied, as configurations say it", "[io]") {
  auto const tied = [](std::string const& config, bool files_hold_head) {
    return facts_of(config).is_tied(files_hold_head);
  };
  CHECK(tied(R"({"tie_word_embeddings":true})", false));
  CHECK(tied(R"({"tie_word_embeddings":true,"architectures":["LlamaForCausalLM"]})", true));
  CHECK(!tied(R"({"tie_word_embeddings":false,"architectures":["LlamaForCausalLM"]})", false));
  // GPT-2's and Gemma's do not say it: their models tie unless told otherwise
  CHECK(tied(R"({"architectures":["GPT2LMHeadModel"]})", false));
  CHECK(tied(R"({"architectures":["T5ForConditionalGeneration"]})", false));
  CHECK(!tied(R"({"architectures":["GPT2LMHeadModel"]})", true));
  // a model without a head has none that could be tied
  CHECK(!tied(R"({"tie_word_embeddings":true,"architectures":["BertModel"]})", false));
  CHECK(!tied(R"({"architectures":["LlamaForSequenceClassification"]})", false));
  CHECK(!tied("{}", false));
  // a model of parts says it of one of them, whatever else it says of the whole (Donut's)
  CHECK(tied(R"({"architectures":["XForConditionalGeneration"],"text_config":{"tie_word_embeddings":true}})", true));
  CHECK(!tied(R"({"architectures":["XForConditionalGeneration"],"text_config":{"tie_word_embeddings":false}})", false));
  CHECK(tied(
      R"({"architectures":["VisionEncoderDecoderModel"],"tie_word_embeddings":false,"decoder":{"tie_word_embeddings":true}})",
      false));
  CHECK(tied(R"({"architectures":["EncoderDecoderModel"],"decoder":{"model_type":"gpt2"}})", false));
  CHECK(!base_facts().is_tied(false));
}

TEST_CASE("square weights lie as the base's kind of model has them", "[io]") {
  auto const in_by_out = [](std::string const& module, bool flag, std::string const& config) {
    std::vector<std::byte> const bytes(16);
    stored_tensor const w{"w", dtype::F32, {2, 2}, bytes};
    return is_in_by_out({module, 1, 2, 2, 1}, w, flag, config.empty() ? base_facts() : facts_of(config));
  };
  std::string const gpt2 = R"({"model_type":"gpt2"})", llama = R"({"model_type":"llama"})",
                    nested = R"({"model_type":"vision-encoder-decoder","decoder":{"model_type":"gpt2"}})",
                    bigcode = R"({"model_type":"gpt_bigcode"})";
  for (bool const flag : {false, true}) {
    for (auto const* name : {"h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.crossattention.q_attn"}) {
      CHECK(in_by_out(name, flag, gpt2));
      CHECK(in_by_out(name, flag, nested));
      CHECK(in_by_out(name, flag, R"({"model_type":"imagegpt"})"));
    }
    CHECK(!in_by_out("score", flag, gpt2));  // a Linear in a model of Conv1D
  }
  CHECK(!in_by_out("layers.0.q_proj", false, llama));
  CHECK(!in_by_out("h.0.attn.c_proj", false, bigcode));  // called so, and a Linear
  CHECK_THROWS_WITH(in_by_out("layers.0.q_proj", true, llama), Catch::Contains("config.json says llama"));
  // no config.json: only where name and adapter agree
  CHECK(in_by_out("h.0.attn.c_proj", true, ""));
  CHECK(!in_by_out("layers.0.q_proj", false, ""));
  CHECK_THROWS_WITH(in_by_out("h.0.attn.c_proj", false, ""), Catch::Contains("--fan-in-fan-out"));
  CHECK_THROWS_WITH(in_by_out("layers.0.q_proj", true, ""), Catch::Contains("--no-fan-in-fan-out"));
}

TEST_CASE("other weights lie as their shape says", "[io]") {
  std::vector<std::byte> const bytes(24);
  stored_tensor const tall{"w", dtype::F32, {3, 2}, bytes};
  record_info const three_two{"c_fc", 1, 3, 2, 1}, two_three{"c_fc", 1, 2, 3, 1};
  auto const gpt2 = facts_of(R"({"model_type":"gpt2"})");
  CHECK(!is_in_by_out(three_two, tall, true, gpt2));
  CHECK(is_in_by_out(two_three, tall, true, base_facts()));
  CHECK(is_in_by_out(two_three, tall, false, gpt2));
  CHECK(!is_in_by_out(two_three, tall, false, base_facts()));  // then the shape is wrong, and refused as such
  record_info words{"wte", 1, 2, 3, 1};
  words.layer = {layer_form::embedding};
  CHECK(!is_in_by_out(words, tall, true, gpt2));
}

TEST_CASE("a config.json that is broken is refused, none is none", "[io]") {
  CHECK_THROWS_AS(facts_of("{"), format_error);
  CHECK(!facts_of("[1]").has_config);
  CHECK(facts_of(R"({"vocab_size":7,"decoder":{"vocab_size":9}})").vocabularies == std::vector<index_t>{7, 9});
}
