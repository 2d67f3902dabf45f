#include <loraga/io/peft_config.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

TEST_CASE("a configuration is written as PEFT writes it", "[io]") {
  peft_config c;
  c.r = 16;
  c.alpha = 32;
  c.rank_pattern = {{"b", 4}};
  c.alpha_pattern = {{"b", 2.5}, {"a", 8}};
  c.targets.names = {"q_proj", "v_proj"};
  c.dropout = 0.05;
  c.task_type = "CAUSAL_LM";
  CHECK(peft_config_text(c) == R"({
  "alpha_pattern": {
    "a": 8,
    "b": 2.5
  },
  "base_model_name_or_path": null,
  "bias": "none",
  "fan_in_fan_out": false,
  "inference_mode": true,
  "init_lora_weights": true,
  "lora_alpha": 32,
  "lora_dropout": 0.05,
  "modules_to_save": null,
  "peft_type": "LORA",
  "r": 16,
  "rank_pattern": {
    "b": 4
  },
  "target_modules": [
    "q_proj",
    "v_proj"
  ],
  "task_type": "CAUSAL_LM",
  "use_dora": false,
  "use_rslora": false
})");
  auto const back = parse_peft_config(peft_config_text(c), "test");
  CHECK(back.r == 16);
  CHECK(back.alpha == 32);
  CHECK(back.dropout == 0.05);
  CHECK(back.task_type == "CAUSAL_LM");
  CHECK(back.targets.names == c.targets.names);
  CHECK(back.alpha_pattern == std::vector<std::pair<std::string, double>>{{"a", 8}, {"b", 2.5}});
}

TEST_CASE("ranks and scales follow the first pattern that fits, in the file's order", "[io]") {
  auto const c = parse_peft_config(R"({"peft_type":"LORA","r":8,"lora_alpha":16,"use_rslora":true,
    "rank_pattern":{"v_proj":4,"layers.0.v_proj":2},"alpha_pattern":{"layers.0.v_proj":6}})",
                                   "test");
  peft_scales const s(c, "test");
  CHECK(s.rank("layers.0.v_proj") == 4);
  CHECK(s.rank("layers.1.v_proj") == 4);
  CHECK(s.rank("layers.0.q_proj") == 8);
  CHECK(s.scale("layers.0.v_proj") == 3);
  CHECK(s.scale("layers.1.v_proj") == 8);
  CHECK(s.scale("layers.0.q_proj") == 16 / std::sqrt(8.0));
  auto plain = c;
  plain.rank_stable = false;
  CHECK(peft_scales(plain, "test").scale("layers.0.q_proj") == 2);
}

TEST_CASE("settings this library does not have are refused by name, others are left aside", "[io]") {
  auto const with = [](std::string const& more) {
    return test::message_of([&] { parse_peft_config("{\"peft_type\":\"LORA\"" + more + "}", "test"); });
  };
  CHECK(with("") == "");
  CHECK(with(R"(,"use_dora":false,"modules_to_save":null,"layer_replication":null,"some_day":{"x":1})") == "");
  CHECK(with(R"(,"modules_to_save":["head"],"bias":"all","ensure_weight_tying":true)") == "");
  CHECK_THAT(with(R"(,"modules_to_save":"head")"), Catch::Contains("modules_to_save"));
  CHECK_THAT(with(R"(,"bias":"some")"), Catch::Contains("bias"));
  CHECK_THAT(with(R"(,"lora_alpha":null)"), Catch::Contains("strength"));
  CHECK_THAT(with(R"(,"r":null)"), Catch::Contains("r is null"));
  CHECK_THAT(with(R"(,"trainable_token_indices":[3])"), Catch::Contains("trainable_token_indices"));
  CHECK_THAT(with(R"(,"lora_bias":true)"), Catch::Contains("lora_bias"));
  CHECK_THAT(with(R"(,"r":0)"), Catch::Contains("r is 0"));
  CHECK_THAT(with(R"(,"r":"8")"), Catch::Contains("r is \"8\""));
  CHECK_THAT(with(R"(,"rank_pattern":{"a":-1})"), Catch::Contains("rank_pattern['a']"));
  CHECK_THAT(with(R"(,"alpha_pattern":{"a":null})"), Catch::Contains("alpha_pattern['a']"));
  CHECK_THAT(with(R"(,"target_modules":[1])"), Catch::Contains("target_modules"));
  CHECK_THAT(with(R"(,"layers_to_transform":[1.5])"), Catch::Contains("layers_to_transform"));
  CHECK_THAT(with(R"(,"r":8,"r":9)"), Catch::Contains("second time"));
  CHECK(parse_peft_config(R"({"peft_type":"LORA","use_dora":true})", "test").dora);
  CHECK_THROWS_AS(parse_peft_config("[]", "test"), format_error);
}

TEST_CASE("a configuration that changes the base is recognised", "[io]") {
  auto const changes = [](std::string const& init) {
    return parse_peft_config("{\"peft_type\":\"LORA\",\"init_lora_weights\":" + init + "}", "test").changes_base();
  };
  CHECK(!changes("true"));
  CHECK(!changes("\"gaussian\""));
  CHECK(!changes("\"eva\""));
  CHECK(changes("\"pissa\""));
  CHECK(changes("\"pissa_niter_16\""));
  CHECK(changes("\"lora_ga\""));
  CHECK(changes("\"OLoRA\""));
  for (auto const* spelling : {"lora-ga", "LoRA-GA", "lora_ga_init", "LoraGA", "LORAGA", "loraone", "lora-one", "LoftQ",
                               "corda", "CorDA", "milora", "PiSSA_niter_4"})
    CHECK(changes("\"" + std::string(spelling) + "\""));
  for (auto const* other : {"false", "null", "\"orthogonal\"", "\"mica\"", "\"Gaussian\""}) CHECK(!changes(other));
}

TEST_CASE("a start that nobody here knows is known as such", "[io]") {
  auto const knows = [](std::string const& rest) {
    return parse_peft_config("{\"peft_type\":\"LORA\"" + rest + "}", "test").knows_init();
  };
  CHECK(knows(""));
  CHECK(knows(R"(,"init_lora_weights":"lora-ga")"));
  CHECK(!knows(R"(,"init_lora_weights":"next-years")"));
}

TEST_CASE("the authors' own peft_type is LoRA-GA whatever else it says", "[io]") {
  auto const c = parse_peft_config(R"({"peft_type":"LORAGA","init_lora_weights":true})", "test");
  CHECK(c.changes_base());
  CHECK_THROWS_AS(parse_peft_config(R"({"peft_type":"LOHA"})", "test"), format_error);
}

TEST_CASE("what is saved whole is written as it was read", "[io]") {
  auto const text =
      R"({"peft_type":"LORA","modules_to_save":["lm_head","score"],"bias":"lora_only","ensure_weight_tying":true})";
  auto const again = parse_peft_config(peft_config_text(parse_peft_config(text, "test")), "test");
  CHECK(again.modules_to_save == std::vector<std::string>{"lm_head", "score"});
  CHECK(again.bias == "lora_only");
  CHECK(again.ensure_weight_tying);
  CHECK(peft_config_text({}).find("ensure_weight_tying") == std::string::npos);
}

TEST_CASE("targets are read in all their forms", "[io]") {
  auto const targets = [](std::string const& more) {
    return parse_peft_config("{\"peft_type\":\"LORA\"," + more + "}", "test").targets;
  };
  CHECK(targets(R"("target_modules":"q.*")").expression == "q.*");
  CHECK(targets(R"("target_modules":["q"],"exclude_modules":["r"])").excluded.size() == 1);
  CHECK(targets(R"("exclude_modules":"r.*")").excluded_expression == "r.*");
  CHECK(targets(R"("layers_to_transform":3,"layers_pattern":"h")").layers == std::vector<index_t>{3});
  CHECK(targets(R"("layers_to_transform":[3,4],"layers_pattern":["h","g"])").layer_words.size() == 2);
}

TEST_CASE("AdaLoRA's configuration: the rank before pruning, one scale, triplets kept", "[io]") {
  peft_config c;
  c.adalora = true;
  c.r = 3;
  c.alpha = 6;
  c.kept_ranks = {{"l.q", 2}, {"l.v", 0}};
  auto const text = peft_config_text(c);
  auto const json = nlohmann::json::parse(text);
  CHECK(json["peft_type"] == "ADALORA");
  CHECK(json["init_r"] == 3);
  CHECK(json["rank_pattern"] ==
        nlohmann::json{{"l.q.lora_E", {true, true, false}}, {"l.v.lora_E", {false, false, false}}});
  auto const back = parse_peft_config(text, "test");
  CHECK(back.adalora);
  CHECK(back.kept_ranks == c.kept_ranks);
  peft_scales const s(back, "test");
  CHECK(s.rank("l.q") == 2);
  CHECK(s.rank("l.v") == 0);
  CHECK(s.rank("other") == 3);
  CHECK(s.scale("l.q") == 6 / (3 + 1e-5));
  c.kept_ranks.clear();
  CHECK(nlohmann::json::parse(peft_config_text(c))["rank_pattern"].is_null());

  auto const refused = [](std::string const& more) {
    return test::message_of([&] { parse_peft_config(R"({"peft_type":"ADALORA","init_r":2,)" + more + "}", "test"); });
  };
  CHECK_THAT(refused(R"("lora_alpha":0)"), Catch::Contains("lora_alpha"));
  CHECK_THAT(refused(R"("use_dora":true)"), Catch::Contains("use_dora"));
  CHECK_THAT(refused(R"("rank_pattern":{"q.lora_E":[true]})"), Catch::Contains("rank_pattern['q.lora_E']"));
  CHECK_THAT(refused(R"("rank_pattern":{"q":[true,true]})"), Catch::Contains("rank_pattern['q']"));
  CHECK_THAT(refused(R"("rank_pattern":{"q.lora_E":[1,0]})"), Catch::Contains("rank_pattern"));
  CHECK_THAT(refused(R"("rank_pattern":[])"), Catch::Contains("rank_pattern"));
  CHECK_THAT(test::message_of([] { parse_peft_config(R"({"peft_type":"ADALORA","init_r":0})", "test"); }),
             Catch::Contains("1 to 2^31"));
  CHECK_THAT(test::message_of([] { parse_peft_config(R"({"peft_type":"LOHA"})", "test"); }), Catch::Contains("LOHA"));
}
