#include "../../examples/tools/adapter_jobs.hpp"
#include "../io/adapter_folders.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::host;
using test::read;
using test::write_model;

TEST_CASE("loraga_adapter: a DoRA is merged, and refused where it has no form; AdaLoRA goes everywhere", "[examples]") {
  test::folder folder;
  auto const w = test::random(8, 10, 1);
  write_model(folder / "base", {{"layers.0.mlp.up_proj.weight", w}});
  auto const plain = test::random_record("model.layers.0.mlp.up_proj", 8, 10, 2, 0, 1);
  auto const dora = test::with_magnitude(plain), adalora = test::with_e(plain);
  save_peft(folder / "dora", {dora}, {}, unchecked_names{});
  save_peft(folder / "adalora", {adalora}, {}, unchecked_names{});
  tools::adapter_options tool;
  tool.may_replace = overwrite::yes;
  tool.base = folder / "base";
  tool.gguf.architecture = "llama";
  auto const run = [&](std::string const& adapter, auto job) {
    tool.sources = {(folder / adapter).string()};
    tool.out = folder / (adapter + "-out");
    return test::message_of([&] { job(tool); });
  };
  auto const merge = [](auto const& t) { tools::merge(t, 1); };
  auto const to_gguf = [](auto t) {
    t.base.clear();  // it would have to be a GGUF file
    tools::to_gguf(t);
  };
  auto const merged = [&](std::string const& adapter) {
    return read(folder / (adapter + "-out"), "layers.0.mlp.up_proj.weight");
  };
  CHECK(run("dora", tools::show).empty());
  CHECK(run("dora", merge).empty());
  CHECK(test::distance(merged("dora"), test::merged(w, dora)) < 1e-5);
  CHECK_THAT(run("dora:2", merge), Catch::Contains("weight 1"));
  CHECK_THAT(run("dora", [](auto const& t) { tools::merge(t, -1); }), Catch::Contains("their own are lost"));
  CHECK_THAT(run("dora", tools::combine), Catch::Contains("merge_into_model"));
  CHECK_THAT(run("dora", to_gguf), Catch::Contains("merge_into_model"));
  CHECK(run("adalora", tools::show).empty());
  CHECK(run("adalora", merge).empty());
  CHECK(test::distance(merged("adalora"), w + test::change_of(adalora)) < 1e-5);
  CHECK(run("adalora", to_gguf).empty());

  tool.profile = peft_profile::portable;
  std::filesystem::remove_all(folder / "adalora-out");
  std::filesystem::remove_all(folder / "dora-out");
  CHECK_THAT(run("dora", tools::convert), Catch::Contains("portable"));
  CHECK(run("adalora", tools::convert).empty());
  auto const lora = load_peft(folder / "adalora-out").records[0];
  CHECK(test::distance(test::change_of(lora), test::change_of(adalora)) < 1e-6);
  // trained on an anchored base, a DoRA comes back to the original one with its magnitude
  save_peft(folder / "start", {test::random_record(plain.module, 8, 10, 2, 0, 7)}, {}, unchecked_names{});
  tool.profile = peft_profile::faithful;
  tool.start = folder / "start";
  tool.base_name = "base";
  CHECK(run("dora", tools::convert).empty());
  auto const final = load_peft(folder / "dora-out").records[0];
  CHECK(final.rank() == 4);
  CHECK(final.magnitude.values == dora.magnitude.values);
}

TEST_CASE("loraga_adapter: whole layers go with combine and convert, and names are changed", "[examples]") {
  test::folder folder;
  std::string const key = "base_model.model.";
  test::factors const f("model.lm.q", 6, 5, 1), g("model.lm.v", 6, 5, 3);
  auto const head = test::random(7, 5, 5);
  test::write_adapter(folder / "a", f.tensors() + test::named_weights{{key + "lm_head.weight", head}},
                      R"(,"modules_to_save":["lm_head"])");
  test::write_adapter(folder / "b", g.tensors());
  tools::adapter_options tool;
  auto const run = [&](std::vector<std::string> const& names, auto job) {
    tool.sources.clear();
    for (auto const& name : names) tool.sources.push_back((folder / name).string());
    tool.out = folder / "out";
    std::filesystem::remove_all(tool.out);
    return test::message_of([&] { job(tool); });
  };
  tool.renames = {{"model.lm", "model"}};
  CHECK(run({"a", "b"}, tools::combine).empty());
  auto const sum = load_peft(tool.out, {}, whole_layers::take);
  CHECK(sum.records[0].module == "model.q");
  CHECK(sum.records.size() == 2);
  REQUIRE(sum.whole.size() == 1);
  CHECK(sum.config.modules_to_save == std::vector<std::string>{"lm_head"});
  CHECK_THAT(run({"a:0.5", "b"}, tools::combine), Catch::Contains("expected weight 1"));
  test::write_adapter(folder / "c", g.tensors() + test::named_weights{{key + "lm_head.weight", 2 * head}});
  CHECK_THAT(run({"a", "c"}, tools::combine), Catch::Contains("not the same"));
  CHECK(run({"a"}, tools::convert).empty());
  CHECK(load_peft(tool.out, {}, whole_layers::take).whole.size() == 1);
  CHECK(run({"a"}, tools::show).empty());
  tool.gguf.architecture = "llama";
  CHECK_THAT(run({"a"}, tools::to_gguf), Catch::Contains("lm_head.weight whole"));
  tool.renames = {{"model.lm.q", "x"}, {"model.lm.v", "x"}};
  CHECK_THAT(run({"a", "b"}, tools::combine), Catch::Equals(""));  // of two adapters: they add up
  test::write_adapter(folder / "d", f.tensors() + g.tensors());
  CHECK_THAT(run({"d"}, tools::combine), Catch::Contains("two names become"));
}

TEST_CASE("loraga_adapter: converting gives the original base's embedding back where PEFT saved the changed one",
          "[examples]") {
  test::folder folder;
  auto const words = test::random(6, 4, 1);
  test::factors const start("model.embed_tokens", 4, 6, 3), trained("model.embed_tokens", 4, 6, 5);
  auto const changed = words - test::transpose(start.change());
  test::named_weights const copy{{"base_model.model.model.embed_tokens.base_layer.weight", changed}};
  test::write_adapter(folder / "trained", trained.embedding_tensors() + copy);
  test::write_adapter(folder / "start", start.embedding_tensors());
  test::write_model_folder(folder / "base", {{"model.embed_tokens.weight", words}}, R"({"tie_word_embeddings":false})");
  tools::adapter_options tool;
  tool.sources = {(folder / "trained").string()};
  tool.start = folder / "start";
  tool.base_name = "base";
  tool.out = folder / "original";
  tools::convert(tool);
  auto const whole = load_peft(tool.out, {}, whole_layers::take).whole;
  REQUIRE(whole.size() == 1);
  CHECK(whole[0].base_copy);
  CHECK(test::distance(
            read(tool.out / "adapter_model.safetensors", "base_model.model.model.embed_tokens.base_layer.weight"),
            words) < 1e-5);
  tool.sources = {tool.out.string()};
  tool.start.clear();
  tool.base = folder / "base";
  tool.out = folder / "merged";
  tools::merge(tool, 1);
  CHECK(test::distance(read(tool.out, "model.embed_tokens.weight"), changed + test::transpose(trained.change())) <
        1e-5);
}
