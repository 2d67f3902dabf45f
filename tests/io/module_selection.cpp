#include <loraga/io/module_selection.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("pattern keys fit as PEFT tries them", "[io]") {
  auto const fits = [](std::string const& key, std::string const& name) {
    return module_pattern(key, "test").fits_end(name);
  };
  CHECK(fits("q_proj", "model.layers.0.self_attn.q_proj"));
  CHECK(fits("layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj"));
  CHECK(!fits("proj", "model.layers.0.self_attn.q_proj"));
  CHECK(!fits("self_attn", "model.layers.0.self_attn.q_proj"));
  CHECK(fits("layers.0.q", "layersX0.q"));  // a dot is any character, also in plain names
  CHECK(fits(R"(layers\.[01]\..*)", "model.layers.1.mlp.up"));
  CHECK(!fits(R"(layers\.[01]\..*)", "model.layers.11.mlp.up"));
  CHECK(fits("q_proj|v_proj", "a.v_proj"));
  CHECK(fits(R"(^model\.q)", "model.q"));
  CHECK(!fits(R"(^model\.q)", "outer.model.q"));
  CHECK(fits("(?:a|b).c", "x.b.c"));
  CHECK(module_pattern(".*attn.*", "test").fits("model.attn.q"));
  CHECK(!module_pattern("attn.*", "test").fits("model.attn.q"));
}

TEST_CASE("patterns that C++ reads otherwise, or that would take forever, are refused or harmless", "[io]") {
  for (std::string const bad : {"(?P<name>a)", "(?i)a", "(", "a{5,2}", "[b-a]", "(a)\\1"}) {
    INFO(bad);
    CHECK_THROWS_AS(module_pattern(bad, "test"), format_error);
  }
  CHECK_THROWS_AS(module_pattern(std::string(1001, '*'), "test"), format_error);
  CHECK(!module_pattern("(a*)*b", "test").fits(std::string(5000, 'a')));  // exponential in Python
}

TEST_CASE("targets are names or ends of names after a dot, or one expression", "[io]") {
  module_selection const by_name{{"q_proj", "model.lm_head"}, {}, {}, {}, {}, {}};
  CHECK(by_name.selects("model.layers.0.q_proj"));
  CHECK(by_name.selects("q_proj"));
  CHECK(by_name.selects("model.lm_head"));
  CHECK(!by_name.selects("model.layers.0.xq_proj"));
  CHECK(!by_name.selects("lm_head"));
  module_selection const by_expression{{}, R"(.*\.(q|v)_proj)", {}, {}, {}, {}};
  CHECK(by_expression.selects("a.v_proj"));
  CHECK(!by_expression.selects("a.k_proj"));
  CHECK(!by_expression.selects("a.v_proj.x"));
  module_selection const but{{"q_proj"}, {}, {"layers.1.q_proj"}, {}, {}, {}};
  CHECK(but.selects("layers.0.q_proj"));
  CHECK(!but.selects("layers.1.q_proj"));
  module_selection const without{{"q_proj"}, {}, {}, R"(layers\.1.*)", {}, {}};
  CHECK(without.selects("layers.0.q_proj"));
  CHECK(!without.selects("layers.1.q_proj"));
}

TEST_CASE("layers are the first number of a name", "[io]") {
  module_selection some{{"up"}, {}, {}, {}, {1, 3}, {}};
  CHECK(some.selects("model.layers.1.mlp.up"));
  CHECK(some.selects("model.layers.3.up"));
  CHECK(!some.selects("model.layers.2.up"));
  CHECK(!some.selects("model.layers.2.experts.1.up"));
  CHECK(!some.selects("model.up"));
  CHECK(!some.selects("layers.1.up"));  // PEFT wants something before the word
  some.layer_words = {"h"};
  CHECK(some.selects("h.1.up"));
  CHECK(some.selects("model.h.1.up"));
  CHECK(!some.selects("model.layers.1.up"));
}

TEST_CASE("families know their linear layers", "[io]") {
  module_selection llama{preset_of("qwen").names, {}, {}, {}, {}, {}};
  CHECK(llama.selects("model.layers.0.mlp.down_proj"));
  CHECK(!llama.selects("lm_head"));
  CHECK(!llama.selects("model.embed_tokens"));
  module_selection const bert{preset_of("bert").names, {}, {}, {}, {}, {}};
  CHECK(bert.selects("bert.encoder.layer.0.attention.output.dense"));
  CHECK(bert.selects("encoder.layer.0.intermediate.dense"));
  CHECK(!bert.selects("pooler.dense"));
  CHECK(preset_of("gpt2").fan_in_fan_out);
  CHECK(!preset_of("t5").fan_in_fan_out);
  CHECK_THROWS_WITH(preset_of("mamba"), Catch::Contains("llama, gpt2, bert, t5"));
}
