#include <loraga/io/peft.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "adapter_folders.hpp"

using namespace loraga;

namespace {

/// A base of row-major weights, zero, by name.
void write_base(std::filesystem::path const& path, std::vector<tensor_spec> const& specs) {
  safetensors_writer w(path, specs);
  for (auto const& s : specs) {
    std::vector<float> const zero(static_cast<std::size_t>(element_count(s.shape, "test")));
    w.write(s.name, std::as_bytes(std::span(zero)));
  }
  w.commit();
}
std::vector<adapter_record> two_layers() {
  auto q = test::random_record("model.layers.0.q_proj", 6, 5, 2, 0, 1),
       v = test::random_record("model.layers.0.v_proj", 4, 5, 3, 0, 2);
  q.scale = 16 / std::sqrt(2.0);
  v.scale = 4 / std::sqrt(3.0);
  return {q, v};
}
void check_same_change(std::vector<adapter_record> const& a, std::vector<adapter_record> const& b, double tolerance) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].module == b[i].module);
    CHECK(test::distance(test::change_of(a[i]), test::change_of(b[i])) <= tolerance);
  }
}

}  // namespace

TEST_CASE("a faithful adapter comes back bit for bit, with its scales", "[io]") {
  test::folder const folder;
  auto const records = two_layers();
  save_peft(folder / "a", records, {.rank_stable = true, .task_type = "CAUSAL_LM", .dropout = 0.1}, unchecked_names{});
  auto const back = load_peft(folder / "a");
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(back.records[i].a.values == records[i].a.values);
    CHECK(back.records[i].b.values == records[i].b.values);
    CHECK(back.records[i].scale == records[i].scale);
  }
  CHECK(back.config.rank_stable);
  CHECK(back.config.dropout == 0.1);
  CHECK(back.config.rank_pattern.size() + back.config.alpha_pattern.size() == 2);
  CHECK(back.config.alpha == 4);  // exact, though s = 4/sqrt(3) is not
  CHECK(safetensors_file(folder / "a" / "adapter_model.safetensors").metadata().at("format") == "pt");
}

TEST_CASE("a portable adapter needs no pattern and no scale", "[io]") {
  test::folder const folder;
  auto const records = two_layers();
  save_peft(folder / "a", records, {.profile = peft_profile::portable, .rank_stable = true}, unchecked_names{});
  auto const back = load_peft(folder / "a");
  CHECK(back.config.r == 3);
  CHECK(back.config.alpha == 3);
  CHECK(!back.config.rank_stable);
  CHECK(back.config.rank_pattern.empty());
  CHECK(back.config.alpha_pattern.empty());
  CHECK(back.records[0].rank() == 3);
  check_same_change(back.records, records, 1e-5);
}

TEST_CASE("an anchored adapter is saved for the base that is named, and for none by guess", "[io]") {
  test::folder const folder;
  auto const r = test::random_record("m.q", 6, 5, 2, 2, 1);
  CHECK_THROWS_WITH(save_peft(folder / "a", {r}, {}, unchecked_names{}), Catch::Contains("peft_base::original"));
  CHECK_THROWS_WITH(save_peft(folder / "a", {r}, {.base = peft_base::anchored}, unchecked_names{}),
                    Catch::Contains("base_model is empty"));
  CHECK(folder.count() == 0);
  for (bool const rank_stable : {false, true}) {
    auto const to = folder / ("original" + std::to_string(rank_stable));
    save_peft(to, {r}, {.base = peft_base::original, .rank_stable = rank_stable}, unchecked_names{});
    auto const back = load_peft(to);
    CHECK(back.config.r == 4);
    CHECK(back.records[0].scale == r.scale);
    // alpha doubles, or grows by sqrt(2)
    CHECK(back.config.alpha == Approx(r.scale * (rank_stable ? 2 : 4)));
    check_same_change(back.records, {r}, 1e-6);
  }
  save_peft(folder / "anchored", {r}, {.base = peft_base::anchored, .base_model = "base-anchored"}, unchecked_names{});
  auto const back = load_peft(folder / "anchored");
  CHECK(back.config.r == 2);
  CHECK(back.config.base_model == "base-anchored");
  CHECK(back.records[0].a.values == r.a.values);
}

TEST_CASE("names and shapes are looked up in the base before anything is written", "[io]") {
  test::folder const folder;
  write_base(folder / "base", {{"layers.0.q_proj.weight", dtype::F32, {6, 5}},
                               {"layers.0.v_proj.weight", dtype::F32, {4, 5}},
                               {"layers.1.v_proj.weight", dtype::F32, {4, 5}}});
  safetensors_model const base(folder / "base");
  auto records = two_layers();
  peft_options const options{.rank_stable = true, .module_prefix = "model."};
  save_peft(folder / "a", records, options, base);
  // v_proj alone would also mean layer 1
  CHECK(load_peft(folder / "a").config.targets.names ==
        std::vector<std::string>{"model.layers.0.q_proj", "model.layers.0.v_proj"});
  save_peft(folder / "b", {records[0]}, options, base);
  CHECK(load_peft(folder / "b").config.targets.names == std::vector<std::string>{"q_proj"});

  auto const refused = [&](std::vector<adapter_record> const& r, peft_options const& o, std::string const& why) {
    CHECK_THAT(test::message_of([&] { save_peft(folder / "c", r, o, base); }), Catch::Contains(why));
    CHECK(!std::filesystem::exists(folder / "c"));
  };
  records[1].module = "model.layers.0.typo";
  refused(records, options, "save_peft(model.layers.0.typo): module is unknown");
  records = two_layers();
  refused(records, {.module_prefix = ""}, "unknown");
  refused(records, {.module_prefix = "other."}, "one that starts with 'other.'");
  refused({records[0]}, {.fan_in_fan_out = true, .module_prefix = "model."}, "in x out");
  records[0].module = records[1].module;
  refused(records, options, "layers.0.v_proj");
  refused({}, options, "records is empty");
  auto twice = two_layers();
  twice.push_back(twice[0]);
  refused(twice, options, "twice");
}

TEST_CASE("patterns are keys for one module only", "[io]") {
  test::folder const folder;
  // "fc" is also the end of "block.fc", and "a.b" would fit "axb"
  auto r = std::vector{test::random_record("fc", 3, 3, 1, 0, 1), test::random_record("block.fc", 3, 3, 2, 0, 2),
                       test::random_record("x.fc", 3, 3, 3, 0, 3), test::random_record("y.fc", 3, 3, 3, 0, 4)};
  r[0].scale = 7;
  save_peft(folder / "a", r, {}, unchecked_names{});
  auto const back = load_peft(folder / "a").records;
  for (auto const& b : back)
    for (auto const& x : r)
      if (x.module == b.module) {
        CHECK(b.rank() == x.rank());
        CHECK(b.scale == x.scale);
      }
}

TEST_CASE("16-bit adapters keep their type, portable ones need float", "[io]") {
  test::folder const folder;
  auto r = test::random_record("m", 4, 4, 2, 0, 1);
  r.type = dtype::BF16;
  for (auto* m : {&r.a, &r.b})
    for (float& x : m->values) x = static_cast<float>(bf16(x));
  save_peft(folder / "a", {r}, {}, unchecked_names{});
  auto const back = load_peft(folder / "a").records[0];
  CHECK(back.type == dtype::BF16);
  CHECK(back.a.values == r.a.values);
  save_peft(folder / "b", {r}, {.profile = peft_profile::portable}, unchecked_names{});
  CHECK(load_peft(folder / "b").records[0].type == dtype::F32);
  check_same_change(load_peft(folder / "b").records, {r}, 1e-6);
}

TEST_CASE("adapters that do not fit together are refused by name", "[io]") {
  test::folder const folder;
  auto const to = folder / "a";
  save_peft(to, two_layers(), {}, unchecked_names{});
  auto const config = test::read_file(to / "adapter_config.json");
  auto const with = [&](std::string const& from, std::string const& into) {
    auto text = config;
    REQUIRE(text.find(from) != text.npos);
    test::write_file(to / "adapter_config.json", text.replace(text.find(from), from.size(), into));
    return test::message_of([&] { load_peft(to); });
  };
  CHECK_THAT(with("\"r\": 2", "\"r\": 5"), Catch::Contains("of rank 5"));
  CHECK_THAT(with("\"use_dora\": false", "\"use_dora\": true"), Catch::Contains("without .lora_magnitude_vector"));
  CHECK_THAT(with("\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\""),
             Catch::Contains("peft_base::anchored"));
  CHECK_NOTHROW(load_peft(to, peft_base::anchored));
  CHECK_THROWS_AS(load_peft(to, peft_base::original), state_error);
  test::write_file(to / "adapter_config.json", config);
  auto const weights = [&](std::vector<tensor_spec> const& specs) {
    std::filesystem::remove(to / "adapter_model.safetensors");
    write_base(to / "adapter_model.safetensors", specs);
    return test::message_of([&] { load_peft(to); });
  };
  std::string const q = "base_model.model.model.layers.0.q_proj";
  CHECK_THAT(weights({{q + ".lora_A.weight", dtype::F32, {2, 5}}}), Catch::Contains("without .lora_B.weight"));
  CHECK_THAT(weights({{q + ".lora_C.weight", dtype::F32, {2, 5}}}), Catch::Contains("lora_C"));
  CHECK_THAT(weights({{"q.lora_A.weight", dtype::F32, {2, 5}}}), Catch::Contains("'q.lora_A.weight' is unknown"));
  CHECK_THAT(weights({{q + ".lora_A.weight", dtype::F32, {2, 5, 1}}}), Catch::Contains("[2, 5, 1]"));
  CHECK_THAT(weights({{q + ".lora_A.weight", dtype::I32, {4, 10}}}), Catch::Contains("I32"));
  CHECK_THAT(weights({}), Catch::Contains("empty"));
  std::filesystem::remove(to / "adapter_model.safetensors");
  CHECK_THROWS_AS(load_peft(to), file_error);
  test::write_file(to / "adapter_model.bin", "");
  CHECK_THAT(test::message_of([&] { load_peft(to); }), Catch::Contains("a pickle"));
}

TEST_CASE("an adapter is not overwritten unless asked", "[io]") {
  test::folder const folder;
  save_peft(folder / "a", two_layers(), {}, unchecked_names{});
  auto const before = test::read_file(folder / "a" / "adapter_model.safetensors");
  auto other = two_layers();
  other[0].a.values[0] = 9;
  CHECK_THROWS_AS(save_peft(folder / "a", other, {}, unchecked_names{}), file_error);
  CHECK(test::read_file(folder / "a" / "adapter_model.safetensors") == before);
  save_peft(folder / "a", other, {.may_replace = overwrite::yes}, unchecked_names{});
  CHECK(load_peft(folder / "a").records[0].a.values[0] == 9);
}

TEST_CASE("layers saved whole are given to who takes them, and written as they were read", "[io]") {
  test::folder const folder;
  std::string const key = "base_model.model.";
  test::factors const f("model.layers.0.q_proj", 6, 5, 1);
  auto const head = test::random(7, 5, 3), words = test::random(7, 5, 4);
  test::write_adapter(folder / "a",
                      f.tensors() + test::named_weights{{key + "lm_head.weight", head},
                                                        {key + "model.embed_tokens.base_layer.weight", words}},
                      R"(,"modules_to_save":["lm_head"],"task_type":"SEQ_CLS")");
  CHECK_THROWS_WITH(load_peft(folder / "a"), Catch::Contains("lm_head.weight whole"));
  auto const a = load_peft(folder / "a", {}, whole_layers::take);
  REQUIRE(a.whole.size() == 2);
  CHECK(a.whole[0].name == "lm_head.weight");
  CHECK(a.whole[1].base_copy);
  CHECK(a.records.size() == 1);
  auto const& c = a.config;
  save_peft(folder / "b", a.records, {.task_type = c.task_type, .whole = a.whole, .modules_to_save = c.modules_to_save},
            unchecked_names{});
  CHECK(test::read_file(folder / "b" / "adapter_model.safetensors") ==
        test::read_file(folder / "a" / "adapter_model.safetensors"));
  CHECK(load_peft(folder / "b", {}, whole_layers::take).config.modules_to_save == c.modules_to_save);
  save_peft(folder / "c", a.records, {.whole = a.whole}, unchecked_names{});  // its own heads
  CHECK(load_peft(folder / "c", {}, whole_layers::take).config.modules_to_save == std::vector<std::string>{"lm_head"});
  CHECK_THROWS_WITH(save_peft(folder / "d", a.records, {.task_type = "SEQ_CLS"}, unchecked_names{}),
                    Catch::Contains("SEQ_CLS"));
}

TEST_CASE("an adapter whose start nobody knows is read when the caller says what it did", "[io]") {
  test::folder const folder;
  test::factors const f("q", 6, 5, 1);
  auto const a = test::write_adapter(folder / "a", f.tensors(), R"(,"init_lora_weights":"next-years")");
  CHECK_THROWS_WITH(load_peft(a), Catch::Contains("next-years") && Catch::Contains("--relative-to"));
  CHECK(load_peft(a, peft_base::original).records.size() == 1);
  CHECK(load_peft(a, peft_base::anchored).records.size() == 1);
}
