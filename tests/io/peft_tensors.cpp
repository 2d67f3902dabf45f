#include <loraga/io/peft.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "records.hpp"

using namespace loraga;

namespace {

using sizes = std::vector<index_t>;

void write_file(std::filesystem::path const& path, std::vector<tensor_spec> const& specs) {
  safetensors_writer w(path, specs, {}, overwrite::yes);
  for (auto const& s : specs) {
    std::vector<float> const zero(static_cast<std::size_t>(element_count(s.shape, "test")));
    w.write(s.name, std::as_bytes(std::span(zero)));
  }
  w.commit();
}
void check_same(adapter_record const& a, adapter_record const& b) {
  CHECK(a.layer == b.layer);
  CHECK(a.a.values == b.a.values);
  CHECK(a.b.values == b.b.values);
  CHECK(a.e.values == b.e.values);
  CHECK(a.magnitude.values == b.magnitude.values);
  CHECK(a.scale == b.scale);
  CHECK(a.type == b.type);
}

}  // namespace

TEST_CASE("every kind of layer is shaped as PEFT shapes it, and comes back", "[io]") {
  test::folder const folder;
  auto linear = test::random_record("l", 4, 6, 2, 0, 1), conv = linear, words = linear;
  conv.module = "c";
  conv.layer = {layer_form::convolution, 3, 1};
  words.module = "w";
  words.layer = {layer_form::embedding};
  for (bool const dora : {false, true}) {
    auto const to = folder / std::to_string(dora);
    std::vector records{conv, linear, words};
    if (dora)
      for (auto& r : records) r = test::with_magnitude(r);
    save_peft(to, records, {}, unchecked_names{});
    auto const back = load_peft(to);
    REQUIRE(back.records.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) check_same(back.records[i], records[i]);
    safetensors_file const file(to / "adapter_model.safetensors");
    auto const shape = [&](std::string const& name) { return file["base_model.model." + name].shape; };
    CHECK(shape("l.lora_A.weight") == sizes{2, 6});
    CHECK(shape("c.lora_A.weight") == sizes{2, 2, 3, 1});
    CHECK(shape("c.lora_B.weight") == sizes{4, 2, 1, 1});
    CHECK(shape("w.lora_embedding_A") == sizes{2, 6});
    CHECK(shape("w.lora_embedding_B") == sizes{4, 2});
    CHECK(file.tensors().size() == (dora ? 9 : 6));
    if (!dora) continue;
    CHECK(shape("l.lora_magnitude_vector") == sizes{4});
    CHECK(shape("c.lora_magnitude_vector") == sizes{1, 4, 1, 1});
    CHECK(back.config.dora);
  }
}

TEST_CASE("a magnitude stays float beside 16-bit factors", "[io]") {
  test::folder const folder;
  auto r = test::with_magnitude(test::random_record("l", 4, 6, 2, 0, 1));
  r.type = dtype::BF16;
  for (auto* m : {&r.a, &r.b})
    for (float& x : m->values) x = static_cast<float>(bf16(x));
  save_peft(folder / "a", {r}, {}, unchecked_names{});
  check_same(load_peft(folder / "a").records[0], r);
}

TEST_CASE("AdaLoRA comes back with E, pruned layers and its scale; portable folds E", "[io]") {
  test::folder const folder;
  auto q = test::with_e(test::random_record("q", 4, 6, 3, 0, 1)),
       v = test::with_e(test::random_record("v", 4, 5, 2, 0, 2));
  q.scale = v.scale = 7 / (3 + 1e-5);
  save_peft(folder / "a", {q, v}, {.rank_stable = true}, unchecked_names{});
  auto const back = load_peft(folder / "a");
  CHECK(back.config.adalora);
  CHECK(back.config.alpha == 7);
  check_same(back.records[0], q);
  check_same(back.records[1], v);
  save_peft(folder / "p", {q, v}, {.profile = peft_profile::portable}, unchecked_names{});
  auto const plain = load_peft(folder / "p");
  CHECK(!plain.config.adalora);
  CHECK(test::distance(test::change_of(plain.records[0]), test::change_of(q)) < 1e-6);

  auto anchored = test::with_e(test::random_record("q", 4, 6, 3, 3, 1));
  save_peft(folder / "o", {anchored}, {.base = peft_base::original}, unchecked_names{});
  auto const wide = load_peft(folder / "o").records[0];
  CHECK(wide.rank() == 6);
  CHECK(wide.scale == Approx(anchored.scale).epsilon(1e-15));
  CHECK(test::distance(test::change_of(wide), test::change_of(anchored)) < 1e-6);

  v.scale = 1;
  CHECK_THROWS_WITH(save_peft(folder / "b", {q, v}, {}, unchecked_names{}), Catch::Contains("save_peft(v): scale"));
  v.scale = q.scale = -1;
  CHECK_THROWS_WITH(save_peft(folder / "b", {q, v}, {}, unchecked_names{}), Catch::Contains("above 0"));
}

TEST_CASE("an anchored DoRA has rank 2r and the same magnitude on the original base", "[io]") {
  test::folder const folder;
  auto const w = test::random(4, 6, 3);
  auto const r = test::with_magnitude(test::random_record("q", 4, 6, 2, 2, 1));
  CHECK_THROWS_AS(save_peft(folder / "a", {r}, {}, unchecked_names{}), value_error);
  save_peft(folder / "a", {r}, {.base = peft_base::original}, unchecked_names{});
  auto const wide = load_peft(folder / "a").records[0];
  CHECK(wide.rank() == 4);
  CHECK(test::distance(test::merged(w, wide), test::merged(w, r)) < 1e-6);
  save_peft(folder / "b", {r}, {.base = peft_base::anchored, .base_model = "changed"}, unchecked_names{});
  auto const alone = load_peft(folder / "b").records[0];
  CHECK(alone.rank() == 2);
  CHECK(test::distance(test::merged(w - test::change_of(start_of(r)), alone), test::merged(w, r)) < 1e-6);
}

TEST_CASE("what has no form in a file is refused by name before it is written", "[io]") {
  test::folder const folder;
  auto const q = test::random_record("q", 4, 6, 2, 0, 1);
  auto other = q;
  other.module = "v";
  auto const refused = [&](std::vector<adapter_record> const& records, peft_options const& options) {
    auto const said = test::message_of([&] { save_peft(folder / "a", records, options, unchecked_names{}); });
    CHECK(!std::filesystem::exists(folder / "a"));
    return said;
  };
  CHECK_THAT(refused({test::with_magnitude(q)}, {.profile = peft_profile::portable}),
             Catch::Contains("merge_into_model"));
  CHECK_THAT(refused({test::with_magnitude(q), other}, {}),
             Catch::Contains("save_peft(v): record is of another method"));
  CHECK_THAT(refused({q, test::with_e(other)}, {}), Catch::Contains("without_e"));

  write_file(folder / "base", {{"q.weight", dtype::F32, {4, 2, 3, 1}}, {"w.weight", dtype::F32, {6, 4}}});
  safetensors_model const base(folder / "base");
  auto const checked = [&](adapter_record const& r, peft_options options = {}) {
    options.may_replace = overwrite::yes;
    return test::message_of([&] { save_peft(folder / "checked", {r}, options, base); });
  };
  auto conv = q, words = q;
  conv.layer = {layer_form::convolution, 3, 1};
  words.layer = {layer_form::embedding};
  words.module = "w";
  CHECK(checked(conv).empty());
  CHECK(checked(words).empty());
  CHECK(checked(words, {.fan_in_fan_out = true}).empty());
  CHECK(checked(test::with_e(q)).empty());  // AdaLoRA's files do not tell
  CHECK_THAT(checked(test::with_e(q), {.profile = peft_profile::portable}), Catch::Contains("[4, 2, 3, 1]"));
  CHECK_THAT(checked(q), Catch::Contains("4x6 of a linear layer"));
  conv.layer = {layer_form::convolution, 1, 3};
  CHECK_THAT(checked(conv), Catch::Contains("a convolution of 1x3"));
  words.module = "q";
  CHECK_THAT(checked(words), Catch::Contains("an embedding"));
}

TEST_CASE("files that say what a configuration does not are refused by name", "[io]") {
  test::folder const folder;
  auto const write = [&](std::string const& config, std::vector<std::pair<std::string, sizes>> const& tensors) {
    test::write_file(folder / "adapter_config.json", config);
    std::vector<tensor_spec> specs;
    for (auto const& [name, shape] : tensors) specs.push_back({"base_model.model." + name, dtype::F32, shape});
    write_file(folder / "adapter_model.safetensors", specs);
    return test::message_of([&] { load_peft(folder.path); });
  };
  std::string const lora = R"({"peft_type":"LORA","r":2})", dora = R"({"peft_type":"LORA","r":2,"use_dora":true})",
                    ada = R"({"peft_type":"ADALORA","init_r":2})";
  std::pair<std::string, sizes> const a{"m.lora_A.weight", {2, 6}}, b{"m.lora_B.weight", {4, 2}};
  CHECK(write(lora, {a, b}).empty());
  CHECK_THAT(write(lora, {a, b, {"m.lora_magnitude_vector", {4}}}), Catch::Contains("use_dora"));
  CHECK_THAT(write(dora, {a, b}), Catch::Contains("without .lora_magnitude_vector"));
  CHECK_THAT(write(dora, {a, b, {"m.lora_magnitude_vector", {5}}}), Catch::Contains("[5], expected [4]"));
  CHECK(write(dora, {a, b, {"m.lora_magnitude_vector", {4}}}).empty());
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 6, 3}}, b}), Catch::Contains("Conv1d"));
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 6, 3, 1, 1}}, b}), Catch::Contains("Conv3d"));
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 6, 3, 1}}, b}), Catch::Contains("[4, 2], expected [4, 2, 1, 1]"));
  CHECK_THAT(write(lora, {a, {"m.lora_B.weight", {4, 2, 1, 1}}}), Catch::Contains("expected [4, 2]"));
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 6, 0, 1}}, {"m.lora_B.weight", {4, 2, 1, 1}}}),
             Catch::Contains("sizes of at least 1"));
  index_t const huge = index_t{1} << 32;
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 0, huge, huge}}, {"m.lora_B.weight", {4, 2, 1, 1}}}),
             Catch::Contains("sizes of at least 1"));
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {2, 0}}, {"m.lora_B.weight", {huge << 20, 0}}}), !Catch::Equals(""));
  CHECK_THAT(write(lora, {{"m.lora_embedding_A", {2, 6}}, b}), Catch::Contains("without .lora_embedding_B"));
  CHECK_THAT(write(lora, {{"m.lora_embedding_A", {2, 6}}, {"m.lora_embedding_B", {4, 2}}, b}),
             Catch::Contains("not what adapter_config.json speaks of"));
  CHECK_THAT(write(lora, {a, b, {"m.base_layer.weight", {6, 4}}}), Catch::Contains("m.weight whole"));
  CHECK_THAT(write(lora, {{"m.lora_A.weight", {0}}, {"m.lora_B.weight", {0}}}), Catch::Contains("ZeRO-3"));
  CHECK_THAT(write(lora, {a, b, {"lm_head.weight", {0}}}), Catch::Contains("ZeRO-3"));
  CHECK_THAT(write(lora, {a, b, {"m.lora_A.default.weight", {2, 6}}}), Catch::Contains("another spelling"));
  CHECK_THAT(write(lora, {a, b, {"h.weight", {2}}, {"h.modules_to_save.weight", {2}}}),  // alike, as PEFT has them
             Catch::Contains("h.weight whole"));
  CHECK_THAT(write(lora, {a, b, {"h.weight", {2}}, {"h.modules_to_save.weight", {3}}}),
             Catch::Contains("another spelling"));
  CHECK_THAT(write(lora, {{"m.lora_A.x.weight", {2, 6}}, {"m.lora_B.y.weight", {4, 2}}}),
             Catch::Contains("several: 'x' and 'y'"));
  CHECK_THAT(write(ada, {a, b}), Catch::Contains("without .lora_A"));
  CHECK_THAT(write(ada, {{"m.lora_A", {2, 6}}, {"m.lora_B", {4, 2}}}), Catch::Contains("without .lora_E"));
  CHECK_THAT(write(ada, {{"m.lora_A", {2, 6}}, {"m.lora_B", {4, 2}}, {"m.lora_E", {2}}}),
             Catch::Contains("[2], expected [2, 1]"));
  CHECK(write(ada, {{"m.lora_A", {2, 6}}, {"m.lora_B", {4, 2}}, {"m.lora_E", {2, 1}}}).empty());
  CHECK_THAT(write(R"({"peft_type":"ADALORA","init_r":2,"rank_pattern":{"m.lora_E":[false,false]}})",
                   {{"m.lora_A", {0, 6}}, {"m.lora_B", {4, 0}}, {"m.lora_E", {0, 1}}}),
             Catch::Contains("adapter is empty"));  // no layer is left
}
