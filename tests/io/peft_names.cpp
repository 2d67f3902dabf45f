#include <loraga/io/peft_names.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using namespace loraga::format;

namespace {
peft_key parse_key(std::string const& rest, std::string const& adapter = {}) {
  return parse_peft_key("base_model.model." + rest, "test", adapter);
}
void check_factor(std::string const& rest, std::string const& module, std::string const& suffix,
                  std::string const& adapter = {}) {
  INFO(rest);
  auto const key = parse_key(rest);
  CHECK(key.part == peft_part::factor);
  CHECK(key.module == module);
  CHECK(key.suffix == suffix);
  CHECK(key.adapter == adapter);
}
}  // namespace

TEST_CASE("factors are known in all their spellings", "[io]") {
  check_factor("a.q.lora_A.weight", "a.q", ".lora_A.weight");
  check_factor("a.q.lora_B.default.weight", "a.q", ".lora_B.weight", "default");
  check_factor("a.q.lora_A.my-task.weight", "a.q", ".lora_A.weight", "my-task");
  check_factor("a.w.lora_embedding_A", "a.w", ".lora_embedding_A");
  check_factor("a.w.lora_embedding_B.default", "a.w", ".lora_embedding_B", "default");
  check_factor("a.q.lora_magnitude_vector", "a.q", ".lora_magnitude_vector");
  check_factor("a.q.lora_magnitude_vector.weight", "a.q", ".lora_magnitude_vector");
  check_factor("a.q.lora_magnitude_vector.default.weight", "a.q", ".lora_magnitude_vector", "default");
  check_factor("a.q.lora_E", "a.q", ".lora_E");
  check_factor("a.q.lora_E.default", "a.q", ".lora_E", "default");
}

TEST_CASE("what wrappers put into names is looked through", "[io]") {
  for (auto const* name : {"module.base_model.model.a.q.lora_A.weight", "_orig_mod.base_model.model.a.q.lora_A.weight",
                           "base_model.model._orig_mod.a.q.lora_A.weight",
                           "module._orig_mod.base_model.model.a._fsdp_wrapped_module.q.lora_A.weight"})
    CHECK(parse_peft_key(name, "test").module == "a.q");
  CHECK(unwrapped("a.module.q") == "a.module.q");  // in the middle it is somebody's own name
}

TEST_CASE("layers that are saved whole", "[io]") {
  auto const whole = [](std::string const& rest, peft_part part, std::string const& name,
                        std::string const& adapter = {}) {
    INFO(rest);
    auto const key = parse_key(rest, adapter);
    CHECK(key.part == part);
    CHECK(key.name == name);
  };
  whole("lm_head.weight", peft_part::parameter, "lm_head.weight");
  whole("classifier.out_proj.bias", peft_part::parameter, "classifier.out_proj.bias");
  whole("lm_head.modules_to_save.weight", peft_part::parameter, "lm_head.weight");
  whole("lm_head.modules_to_save.default.weight", peft_part::parameter, "lm_head.weight");
  whole("score.modules_to_save.mine.dense.weight", peft_part::parameter, "score.dense.weight", "mine");
  whole("score.modules_to_save.dense.weight", peft_part::parameter, "score.dense.weight");  // dense is no adapter
  whole("model.embed_tokens.base_layer.weight", peft_part::base_copy, "model.embed_tokens.weight");
  CHECK(parse_key("lm_head.original_module.weight").part == peft_part::buffer);
  CHECK(parse_key("a.q.lora_velora_A.weight").part == peft_part::buffer);
}

TEST_CASE("keys that are nothing of a LoRA's are refused by what they are", "[io]") {
  auto const refused = [](std::string const& name, std::string const& why) {
    CHECK_THAT(test::message_of([&] { parse_peft_key(name, "test"); }), Catch::Contains(why));
  };
  refused("model.q.lora_A.weight", "unknown");
  refused("base_model.model.", "unknown");
  refused("base_model.model.a.q.lora_C.weight", "unknown");
  refused("base_model.model.a.q.lora_B.bias", "unknown");
  refused("base_model.model.a.q.hada_w1_a", "unknown");
  refused("base_model.model.model.embed_tokens.trainable_tokens_delta", "trainable_token_indices");
}
