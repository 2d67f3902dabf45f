#include "../../examples/tools/init_job.hpp"
#include "../../examples/tools/adapter_jobs.hpp"
#include "../io/adapter_folders.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::host;

namespace {

using test::read;
using test::write_model;

/// Two layers and something that is none; gradients of one as dW, of the other as two micro-batches of dY and X.
struct small_model {
  test::folder folder;
  host const q = test::random(12, 10, 1), v = test::random(8, 10, 2), gq = test::random(12, 10, 3);
  host const dy[2] = {test::random(15, 8, 4), test::random(15, 8, 5)},
             x[2] = {test::random(15, 10, 6), test::random(15, 10, 7)};
  tools::init_options options;

  small_model() {
    write_model(folder / "base", {{"l.0.q.weight", q}, {"l.0.v.weight", v}, {"norm.weight", test::random(10, 1, 8)}});
    write_gradients(gq);
    options.base = folder / "base";
    options.gradients = folder / "gradients";
    options.out = folder / "out";
    options.rank = 2;
    options.targets.names = {"q", "v"};
    options.relative_to = peft_base::original;
  }
  void write_gradients(host const& of_q) {
    std::filesystem::remove(folder / "gradients");
    write_model(folder / "gradients", {{"l.0.q.weight", of_q},
                                       {"l.0.v.dY.0", dy[0]},
                                       {"l.0.v.X.0", x[0]},
                                       {"l.0.v.dY.1", dy[1]},
                                       {"l.0.v.X.1", x[1]}});
  }
  std::vector<tools::layer_report> run() {
    loraga::cpu be(1);
    return tools::init_job<loraga::cpu>(be, options).run();
  }
  host gradient_of_v() const { return 0.5 * (test::transpose(dy[0]) * x[0] + test::transpose(dy[1]) * x[1]); }
};

}  // namespace

TEST_CASE("loraga_init: relative to the original base, an adapter of rank 2r adds nothing at first", "[examples]") {
  small_model m;
  auto const layers = m.run();
  auto const adapter = load_peft(m.options.out);
  REQUIRE(adapter.records.size() == 2);
  CHECK(adapter.config.rank_stable);
  for (auto const& r : adapter.records) {
    CHECK(r.rank() == 4);
    CHECK(r.scale == Approx(16 / std::sqrt(2.0)));
    CHECK(test::largest(test::host_of(r.b)) > 0.05);
    CHECK(test::largest(test::change_of(r)) < 1e-5);
  }
  // A holds the gradient's leading right directions, B the next left ones: the mean of the micro-batches' gradients
  CHECK(layers[1].module == "l.0.v");
  CHECK(layers[1].batches == 2);
  auto const g = m.gradient_of_v();
  auto const b = test::columns(test::host_of(adapter.records[1].b), 0, 2),
             a = test::rows(test::host_of(adapter.records[1].a), 0, 2);
  double const c = std::pow(8.0, 0.25) / 4;
  auto const along_a = (1 / c) * (g * test::transpose(a)), along_b = (1 / c) * (test::transpose(b) * g);
  double const seen = test::inner(along_a, along_a) + test::inner(along_b, along_b);
  CHECK(seen / test::inner(g, g) == Approx(layers[1].coverage).epsilon(1e-3));
  CHECK_THAT(test::read_file(m.options.out / "coverage.csv"),
             Catch::Contains("l.0.q,12,10,2,") && Catch::Contains("l.0.v,8,10,2,"));
}

TEST_CASE("loraga_init: the anchored base and its adapter are the original base; trained, it comes back to it",
          "[examples]") {
  small_model m;
  for (auto const method : {tools::start_method::lora_ga, tools::start_method::pissa}) {
    m.options.method = method;
    m.options.relative_to = peft_base::anchored;
    m.options.anchored_base = m.folder / "anchored";
    m.options.may_replace = overwrite::yes;
    if (method == tools::start_method::pissa) m.options.gradients.clear();
    m.run();
    auto adapter = load_peft(m.options.out);
    auto const& r = adapter.records[0];
    CHECK(r.rank() == 2);
    CHECK(test::distance(read(m.folder / "anchored", "l.0.q.weight") + test::change_of(r), m.q) < 1e-5);
    CHECK(test::distance(read(m.folder / "anchored", "l.0.q.weight"), m.q) > 0.01);
    CHECK(read(m.folder / "anchored", "norm.weight").data == read(m.folder / "base", "norm.weight").data);

    for (auto& record : adapter.records)
      for (float& x : record.b.values) x += 0.25f;
    peft_options const as_trained{.rank_stable = adapter.config.rank_stable, .may_replace = overwrite::yes};
    save_peft(m.folder / "trained", adapter.records, as_trained, unchecked_names{});
    tools::adapter_options tool;
    tool.may_replace = overwrite::yes;
    tool.sources = {(m.folder / "trained").string()};
    tool.start = m.options.out / "start";
    tool.out = m.folder / "final";
    CHECK_THROWS_WITH(tools::convert(tool), Catch::Contains("--base-name"));
    tool.base_name = "base";
    tools::convert(tool);
    auto const final = load_peft(m.folder / "final").records[0];
    CHECK(final.rank() == 4);
    auto const trained = read(m.folder / "anchored", "l.0.q.weight") + test::change_of(adapter.records[0]);
    CHECK(test::distance(m.q + test::change_of(final), trained) < 1e-5);

    tool.sources = {(m.folder / "final").string() + ":2", (m.folder / "final").string() + ":-1"};
    tool.start.clear();
    tool.base = m.folder / "base";
    tool.out = m.folder / "merged";
    tools::merge(tool, 1);
    CHECK(test::distance(read(m.folder / "merged", "l.0.q.weight"), trained) < 1e-5);
    tool.out = m.folder / "combined";
    tools::combine(tool);
    CHECK(test::distance(m.q + test::change_of(load_peft(tool.out).records[0]), trained) < 1e-5);
  }
}

TEST_CASE("loraga_init: what is wrong is said by name, and nothing is written", "[examples]") {
  small_model m;
  auto const refused = [&](std::string const& why) {
    CHECK_THAT(test::message_of([&] { m.run(); }), Catch::Contains(why));
    CHECK(!std::filesystem::exists(m.options.out));
  };
  m.options.relative_to.reset();
  refused("--relative-to is missing");
  m.options.relative_to = peft_base::original;
  m.options.targets.names = {"k"};
  refused("is selected");
  m.options.targets.names = {"q", "v"};
  m.options.rank = 5;
  refused("l.0.v: ");
  m.options.rank = 2;
  auto bad = m.gq;
  bad(3, 3) = std::nan("");
  m.write_gradients(bad);
  refused("l.0.q: its gradient is not finite");
  m.write_gradients(0 * m.gq);
  refused("l.0.q: its gradient is zero");
  std::filesystem::remove(m.folder / "gradients");
  write_model(m.folder / "gradients", {{"l.0.q.weight", m.gq}, {"l.0.v.dY", m.dy[0]}});
  refused("l.0.v.X");
  std::filesystem::remove(m.folder / "gradients");
  write_model(m.folder / "gradients", {{"l.0.q.weight", m.gq}});
  refused("l.0.v: its gradient is missing");
}

TEST_CASE("loraga_init: random starts differ from layer to layer, and repeat", "[examples]") {
  small_model m;
  m.options.method = tools::start_method::lora;
  m.options.gradients.clear();
  m.options.relative_to.reset();
  m.run();
  auto const first = load_peft(m.options.out).records;
  CHECK(first[0].a.values != first[1].a.values);
  CHECK(test::largest(test::host_of(first[0].b)) == 0);
  m.options.may_replace = overwrite::yes;
  m.run();
  CHECK(load_peft(m.options.out).records[0].a.values == first[0].a.values);
  m.options.seed = 5;
  m.run();
  CHECK(load_peft(m.options.out).records[0].a.values != first[0].a.values);
}

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
  auto const merged = [&](std::string const& adapter) {
    return read(folder / (adapter + "-out"), "layers.0.mlp.up_proj.weight");
  };
  CHECK(run("dora", tools::show).empty());
  CHECK(run("dora", merge).empty());
  CHECK(test::distance(merged("dora"), test::merged(w, dora)) < 1e-5);
  CHECK_THAT(run("dora:2", merge), Catch::Contains("weight 1"));
  CHECK_THAT(run("dora", [](auto const& t) { tools::merge(t, -1); }), Catch::Contains("their own are lost"));
  CHECK_THAT(run("dora", tools::combine), Catch::Contains("merge_into_model"));
  CHECK_THAT(run("dora", tools::to_gguf), Catch::Contains("merge_into_model"));
  CHECK(run("adalora", tools::show).empty());
  CHECK(run("adalora", merge).empty());
  CHECK(test::distance(merged("adalora"), w + test::change_of(adalora)) < 1e-5);
  CHECK(run("adalora", tools::to_gguf).empty());

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

TEST_CASE("loraga_init: embeddings get their own form, in every start", "[examples]") {
  test::folder folder;
  auto const words = test::random(20, 8, 1), q = test::random(8, 8, 2), g = test::random(20, 8, 3);
  test::write_model_folder(
      folder / "base",
      {{"model.embed_tokens.weight", words}, {"model.l.q.weight", q}, {"model.my_words.weight", words}},
      R"({"model_type":"llama"})");
  write_model(folder / "gradients",
              {{"model.embed_tokens.weight", g}, {"model.l.q.weight", q}, {"model.my_words.weight", g}});
  tools::init_options o;
  o.base = folder / "base";
  o.gradients = folder / "gradients";
  o.rank = 2;
  o.targets.names = {"embed_tokens", "q", "my_words"};
  o.embeddings = {"my_words"};
  o.may_replace = overwrite::yes;
  loraga::cpu be(1);
  auto const start = [&](std::string const& out) {
    o.out = folder / out;
    tools::init_job<loraga::cpu>(be, o).run();
    return load_peft(o.out, peft_base::anchored).records;
  };
  o.relative_to = peft_base::original;
  for (auto const& r : start("original")) {
    CHECK((r.layer.form == layer_form::embedding) == (r.module != "model.l.q"));
    CHECK(test::largest(test::change_of(r)) < 1e-5);
  }
  o.relative_to = peft_base::anchored;
  o.anchored_base = folder / "changed";
  auto const records = start("anchored");
  REQUIRE(records.size() == 3);
  for (auto const& r : records) {
    auto const name = r.module + ".weight";
    auto change = test::change_of(r);
    if (r.layer.form == layer_form::embedding) change = test::transpose(change);
    CHECK(test::distance(read(o.anchored_base, name) + change, read(o.base, name)) < 1e-5);  // together the base
  }
  auto const file = safetensors_file(o.out / "adapter_model.safetensors");
  CHECK(file["base_model.model.model.embed_tokens.lora_embedding_A"].shape == std::vector<index_t>{2, 20});
  CHECK(file["base_model.model.model.my_words.lora_embedding_B"].shape == std::vector<index_t>{8, 2});
  o.method = tools::start_method::pissa;
  o.gradients.clear();
  CHECK(start("pissa").size() == 3);
  o.method = tools::start_method::lora;
  o.relative_to.reset();
  o.anchored_base.clear();
  for (auto const& r : start("lora"))  // PEFT's: zero in A for embeddings, in B for others
    CHECK(test::largest(test::host_of(r.layer.form == layer_form::embedding ? r.a : r.b)) == 0);
  // an anchored base would change a tied head, too
  test::write_file(folder / "base" / "config.json", R"({"tie_word_embeddings":true})");
  o.method = tools::start_method::pissa;
  o.relative_to = peft_base::anchored;
  o.anchored_base = folder / "tied";
  CHECK_THAT(test::message_of([&] { start("tied-out"); }), Catch::Contains("tied to the model's head"));
  // tokens' gradients are no way to an embedding's
  o.method = tools::start_method::lora_ga;
  o.gradients = folder / "pairs";
  write_model(o.gradients, {{"model.embed_tokens.dY", g}, {"model.embed_tokens.X", g}});
  CHECK_THAT(test::message_of([&] { start("pairs-out"); }), Catch::Contains("an embedding has no X"));
}

TEST_CASE("loraga_init: what the anchored base has not is told", "[examples]") {
  small_model m;
  auto const base = m.folder / "whole";
  test::write_model_folder(base, {{"l.0.q.weight", m.q}, {"l.0.v.weight", m.v}});
  test::write_file(base / "pytorch_model.bin", "x");
  test::write_file(base / "tokenizer.json", "{}");
  m.options.base = base;
  m.options.relative_to = peft_base::anchored;
  m.options.anchored_base = m.folder / "changed";
  loraga::cpu be(1);
  tools::init_job<loraga::cpu> job(be, m.options);
  job.run();
  CHECK(job.left_behind() == std::vector<std::string>{"pytorch_model.bin"});
  CHECK(std::filesystem::exists(m.options.anchored_base / "tokenizer.json"));
}

TEST_CASE("loraga_init: gradients are found under the names that wrappers give them", "[examples]") {
  for (auto const* name :
       {"l.0.q.weight", "l.0.q", "module.l.0.q.weight", "_orig_mod.l.0.q.weight", "module._orig_mod.l.0.q",
        "base_model.model.l.0.q.base_layer.weight", "l.0.q.weight.grad", "base_model.model.l.0.q.weight"}) {
    INFO(name);
    small_model m;
    m.options.targets.names = {"q"};
    std::filesystem::remove(m.folder / "gradients");
    write_model(m.folder / "gradients", {{name, m.gq}, {"l.0.q.bias", test::random(12, 1, 2)}});
    CHECK(m.run().size() == 1);
  }
  small_model m;
  std::filesystem::remove(m.folder / "gradients");
  write_model(m.folder / "gradients", {{"module.l.0.q", m.gq}, {"l.0.q.weight", m.gq}});
  CHECK_THAT(test::message_of([&] { m.run(); }), Catch::Contains("each gradient once"));
}

TEST_CASE("loraga_init: experts that no token reached are left out on request, and listed", "[examples]") {
  small_model m;
  m.write_gradients(0 * m.gq);
  m.options.skip_zero_gradients = true;
  loraga::cpu be(1);
  tools::init_job<loraga::cpu> job(be, m.options);
  CHECK(job.run().size() == 1);
  CHECK(job.skipped() == std::vector<std::string>{"l.0.q"});
  CHECK(load_peft(m.options.out).records[0].module == "l.0.v");
  // one without a gradient is the same thing, as PyTorch saves it; the others do not change
  auto const before = test::read_file(m.options.out / "adapter_model.safetensors");
  std::filesystem::remove(m.folder / "gradients");
  write_model(m.folder / "gradients",
              {{"l.0.v.dY.0", m.dy[0]}, {"l.0.v.X.0", m.x[0]}, {"l.0.v.dY.1", m.dy[1]}, {"l.0.v.X.1", m.x[1]}});
  m.options.may_replace = overwrite::yes;
  CHECK(m.run().size() == 1);
  CHECK(test::read_file(m.options.out / "adapter_model.safetensors") == before);
  std::filesystem::remove(m.folder / "gradients");
  write_model(m.folder / "gradients", {{"other.weight", m.gq}});
  CHECK_THAT(test::message_of([&] { m.run(); }),
             Catch::Contains("no layer has a gradient") && Catch::Contains("other.weight"));
}

TEST_CASE("loraga_init: module names may differ from the base's", "[examples]") {
  small_model m;
  m.options.renames = {{"l", "model.layers"}};
  m.run();
  auto const a = load_peft(m.options.out);
  CHECK(a.records[0].module == "model.layers.0.q");
  CHECK(a.config.targets.names == std::vector<std::string>{"q", "v"});
}

TEST_CASE("loraga_init: Conv1D layers are those of config.json, whatever the family says", "[examples]") {
  test::folder folder;
  auto const w = test::random(8, 12, 1);
  tools::init_options o;
  o.base = folder / "base";
  o.out = folder / "out";
  o.method = tools::start_method::pissa;
  o.relative_to = peft_base::original;
  o.rank = 2;
  o.targets.names = {"c_fc", "score"};
  o.may_replace = overwrite::yes;
  loraga::cpu be(1);
  auto const out_of_fc = [&](std::string const& config) {
    std::filesystem::remove_all(o.base);
    test::write_model_folder(o.base, {{"h.0.mlp.c_fc.weight", w}, {"score.weight", w}}, config);
    tools::init_job<loraga::cpu>(be, o).run();
    auto const a = load_peft(o.out);
    CHECK(a.records[1].b.rows == 8);
    CHECK(a.config.fan_in_fan_out == (a.records[0].b.rows == 12));
    return a.records[0].b.rows;
  };
  CHECK(out_of_fc(R"({"model_type":"gpt2"})") == 12);
  o.conv1d_family = true;
  CHECK(out_of_fc(R"({"model_type":"gpt_bigcode"})") == 8);
  CHECK(out_of_fc("") == 12);
  o.conv1d_family = false;
  CHECK_THAT(test::message_of([&] { out_of_fc(""); }), Catch::Contains("--family gpt2"));
  o.fan_in_fan_out = false;
  CHECK(out_of_fc("") == 8);
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
