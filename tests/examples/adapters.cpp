#include "../../examples/adapters/init_job.hpp"
#include "../../examples/adapters/tool_jobs.hpp"
#include "../io/records.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::host;

namespace {

void write_model(std::filesystem::path const& path, std::vector<std::pair<std::string, host>> const& weights) {
  std::vector<tensor_spec> specs;
  for (auto const& [name, w] : weights) specs.push_back({name, dtype::F32, {w.rows, w.cols}});
  safetensors_writer out(path, specs);
  for (auto const& [name, w] : weights) {
    std::vector<float> const values(w.data.begin(), w.data.end());
    out.write(name, col_major(values.data(), w.rows, w.cols));
  }
  out.commit();
}
host read(std::filesystem::path const& model, std::string const& name) {
  safetensors_model const m(model);
  host h(m[name].rows(), m[name].cols());
  read_matrix(m[name], col_major(h.data.data(), h.rows, h.cols));
  return h;
}

/// Two layers and something that is none; gradients of one as dW, of the other as two micro-batches of dY and X.
struct small_model {
  test::folder folder;
  host const q = test::random(12, 10, 1), v = test::random(8, 10, 2), gq = test::random(12, 10, 3);
  host const dy[2] = {test::random(15, 8, 4), test::random(15, 8, 5)},
             x[2] = {test::random(15, 10, 6), test::random(15, 10, 7)};
  adapters::init_options options;

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
  std::vector<adapters::layer_report> run() {
    loraga::cpu be(1);
    return adapters::init_job<loraga::cpu>(be, options).run();
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
  for (auto const method : {adapters::start_method::lora_ga, adapters::start_method::pissa}) {
    m.options.method = method;
    m.options.relative_to = peft_base::anchored;
    m.options.anchored_base = m.folder / "anchored";
    m.options.may_replace = overwrite::yes;
    if (method == adapters::start_method::pissa) m.options.gradients.clear();
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
    adapters::tool_options tool;
    tool.may_replace = overwrite::yes;
    tool.sources = {(m.folder / "trained").string()};
    tool.start = m.options.out / "start";
    tool.out = m.folder / "final";
    CHECK_THROWS_WITH(adapters::convert(tool), Catch::Contains("--base-name"));
    tool.base_name = "base";
    adapters::convert(tool);
    auto const final = load_peft(m.folder / "final").records[0];
    CHECK(final.rank() == 4);
    auto const trained = read(m.folder / "anchored", "l.0.q.weight") + test::change_of(adapter.records[0]);
    CHECK(test::distance(m.q + test::change_of(final), trained) < 1e-5);

    tool.sources = {(m.folder / "final").string() + ":2", (m.folder / "final").string() + ":-1"};
    tool.start.clear();
    tool.base = m.folder / "base";
    tool.out = m.folder / "merged";
    adapters::merge(tool, 1);
    CHECK(test::distance(read(m.folder / "merged", "l.0.q.weight"), trained) < 1e-5);
    tool.out = m.folder / "combined";
    adapters::combine(tool);
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
  refused("gradient of l.0.v is missing");
}

TEST_CASE("loraga_init: random starts differ from layer to layer, and repeat", "[examples]") {
  small_model m;
  m.options.method = adapters::start_method::lora;
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
  adapters::tool_options tool;
  tool.may_replace = overwrite::yes;
  tool.base = folder / "base";
  tool.gguf.architecture = "llama";
  auto const run = [&](std::string const& adapter, auto job) {
    tool.sources = {(folder / adapter).string()};
    tool.out = folder / (adapter + "-out");
    return test::message_of([&] { job(tool); });
  };
  auto const merge = [](auto const& t) { adapters::merge(t, 1); };
  auto const merged = [&](std::string const& adapter) {
    return read(folder / (adapter + "-out"), "layers.0.mlp.up_proj.weight");
  };
  CHECK(run("dora", adapters::show).empty());
  CHECK(run("dora", merge).empty());
  CHECK(test::distance(merged("dora"), test::merged(w, dora)) < 1e-5);
  CHECK_THAT(run("dora:2", merge), Catch::Contains("weight 1"));
  CHECK_THAT(run("dora", [](auto const& t) { adapters::merge(t, -1); }), Catch::Contains("their own are lost"));
  CHECK_THAT(run("dora", adapters::combine), Catch::Contains("merge_into_model"));
  CHECK_THAT(run("dora", adapters::to_gguf), Catch::Contains("merge_into_model"));
  CHECK(run("adalora", adapters::show).empty());
  CHECK(run("adalora", merge).empty());
  CHECK(test::distance(merged("adalora"), w + test::change_of(adalora)) < 1e-5);
  CHECK(run("adalora", adapters::to_gguf).empty());

  tool.profile = peft_profile::portable;
  std::filesystem::remove_all(folder / "adalora-out");
  std::filesystem::remove_all(folder / "dora-out");
  CHECK_THAT(run("dora", adapters::convert), Catch::Contains("portable"));
  CHECK(run("adalora", adapters::convert).empty());
  auto const lora = load_peft(folder / "adalora-out").records[0];
  CHECK(test::distance(test::change_of(lora), test::change_of(adalora)) < 1e-6);
  // trained on an anchored base, a DoRA comes back to the original one with its magnitude
  save_peft(folder / "start", {test::random_record(plain.module, 8, 10, 2, 0, 7)}, {}, unchecked_names{});
  tool.profile = peft_profile::faithful;
  tool.start = folder / "start";
  tool.base_name = "base";
  CHECK(run("dora", adapters::convert).empty());
  auto const final = load_peft(folder / "dora-out").records[0];
  CHECK(final.rank() == 4);
  CHECK(final.magnitude.values == dora.magnitude.values);
}
