#include "../../examples/tools/adapter_jobs.hpp"
#include "tools_model.hpp"

using namespace loraga;
using test::host;
using test::read;
using test::small_model;
using test::write_model;

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
  CHECK_THAT(test::read_file(m.options.out / "layers.csv"),
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
    tools::init_job(be, o).run();
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
  tools::init_job job(be, m.options);
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
  CHECK_THAT(test::message_of([&] { m.run(); }), Catch::Contains("each tensor once"));
}

TEST_CASE("loraga_init: experts that no token reached are left out on request, and listed", "[examples]") {
  small_model m;
  m.write_gradients(0 * m.gq);
  m.options.skip_unreached = true;
  loraga::cpu be(1);
  tools::init_job job(be, m.options);
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
    tools::init_job(be, o).run();
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
