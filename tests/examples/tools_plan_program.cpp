// loraga_plan as a program: shapes of models, what it refuses, its table and its files.
#include "../../examples/tools/plan_job.hpp"
#include "../io/adapter_folders.hpp"
#include "../support/catch.hpp"
#include "../support/small_decoder.hpp"

namespace plan_program_tests {

using namespace loraga;
namespace plan = tools::plan;

namespace {

/// Modules of these names.
module_selection named(std::vector<std::string> names) {
  module_selection s;
  s.names = std::move(names);
  return s;
}

/// What the program prints of a command line, in words; its error's text where it has one.
std::string said(std::string const& line) {
  std::istringstream in("loraga_plan " + line);
  std::vector<std::string> const words{std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
  std::vector<char const*> argv;
  for (auto const& w : words) argv.push_back(w.c_str());
  std::ostringstream out;
  try {
    tools::run_plan(tools::read_plan_options(static_cast<int>(argv.size()), argv.data()), out);
  } catch (std::exception const& failure) {
    return failure.what();
  }
  return out.str();
}

}  // namespace

TEST_CASE("loraga_plan: known models have the parameters that their makers tell", "[examples]") {
  auto const model = [](char const* name) {
    return plan::find_model(name, named({"q_proj", "down_proj", "w2"}), false, 0);
  };
  CHECK(model("llama-2-7b").parameters == 6738415616.0);
  CHECK(model("llama-2-70b").parameters == 68976648192.0);
  CHECK(model("llama-3.1-405b").parameters == 405853388800.0);
  CHECK(model("mixtral-8x7b").parameters == 46702792704.0);
  CHECK(model("llama-2-7b").active == 6738415616.0 - 32000 * 4096.0 - (2 * 32 + 1) * 4096);
  CHECK(model("mixtral-8x7b").active + 32000 * 4096.0 + 65 * 4096 == Approx(12.9e9).epsilon(2e-3));
  CHECK(model("llama-2-7b").layers.size() == 64);
  CHECK(model("mixtral-8x7b").layers.size() == 32 + 32 * 8);
  auto const down = model("llama-2-70b").layers[1];
  CHECK(down.name == "model.layers.0.mlp.down_proj");
  CHECK(down.out == 8192);
  CHECK(down.in == 28672);
  CHECK(down.by_columns);
}

TEST_CASE("loraga_plan: shapes are read from headers of both formats, and experts counted", "[examples]") {
  test::small_decoder const small;
  auto const read = [](std::filesystem::path const& p, index_t active = 0) {
    auto const linears = named({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "w1"});
    return plan::find_model(p.string(), linears, false, active);
  };
  auto const one = read(small.safetensors()), other = read(small.gguf());
  REQUIRE(one.layers.size() == 14);
  REQUIRE(other.layers.size() == 14);
  for (std::size_t i = 0; i < 14; ++i) {
    CHECK(one.layers[i].name == other.layers[i].name);
    CHECK(one.layers[i].out == other.layers[i].out);
    CHECK(one.layers[i].in == other.layers[i].in);
    CHECK(one.layers[i].by_columns ==
          (one.layers[i].name.ends_with("o_proj") || one.layers[i].name.ends_with("down_proj")));
  }
  // attention 2*(32*32 + 16*32), MLP 3*48*32, norms; the embedding is the head as well
  double const blocks = 2 * (2 * (32.0 * 32 + 16 * 32) + 3 * 48 * 32);
  CHECK(one.parameters == blocks + 40 * 32 + 5 * 32);
  CHECK(one.active == blocks + 40 * 32);
  CHECK(one.stored_bytes == 4 * one.parameters);
  CHECK(other.parameters == one.parameters);

  test::folder folder;
  test::named_weights weights;
  for (int e = 0; e < 4; ++e)
    weights.emplace_back("model.layers.0.moe.experts." + std::to_string(e) + ".w1.weight", test::random(24, 16, 1));
  test::write_model_folder(folder / "told", weights, R"({"model_type":"mixtral","num_experts_per_tok":2})");
  test::write_model_folder(folder / "untold", weights, R"({"model_type":"mixtral"})");
  CHECK(read(folder / "told").layers[0].share == 0.5);
  CHECK(read(folder / "told").active == 2 * 24 * 16);
  CHECK(read(folder / "untold", 3).layers[0].share == 0.75);
  CHECK_THAT(test::message_of([&] { read(folder / "untold"); }),
             Catch::Contains("--active-experts is missing, expected 1..4"));
  CHECK_THAT(test::message_of([&] { read(folder / "told", 5); }), Catch::Contains("--active-experts is 5"));

  auto const written = plan::find_model("48x32*2,16x64", {}, false, 0);
  REQUIRE(written.layers.size() == 3);
  CHECK(written.layers[1].out == 48);
  CHECK(written.layers[2].in == 64);
  CHECK(written.parameters == 2 * 48 * 32 + 16 * 64);
}

TEST_CASE("loraga_plan: what cannot be is refused by name", "[examples]") {
  auto const refused = [](std::string const& line, std::string const& what) {
    INFO(line);
    CHECK_THAT(said(line), Catch::Contains(what));
  };
  refused("llama-3-8b", "MODEL is 'llama-3-8b', expected one of llama-2-7b, llama-2-70b, llama-3.1-405b, mixtral-8x7b");
  refused("64x0", "MODEL is '64x0'");
  refused("64x64 --ranks 0", "--ranks is 0, expected 1 or more");
  refused("64x64 --ranks 2 9999999", "--ranks is 9999999");
  refused("64x64 --rank 0", "--rank is 0");
  refused("64x64,64x20*3 --rank 11", "at most half of 20, the smaller side of layer1");
  refused("64x64 --width 15", "--width is 15, expected 16 or more");
  refused("64x64 --power-steps -1", "--power-steps");
  refused("64x64 --tokens 0", "--tokens is 0");
  refused("64x64 --batches 0", "--batches is 0");
  refused("64x64 --steps 0", "--steps is 0");
  refused("64x64 --step-tokens 0", "--step-tokens is 0");
  refused("64x64 --bucket 3", "--bucket is 3");
  refused("64x64 --flops 0", "--flops is 0");
  refused("64x64 --flops nan", "--flops");
  refused("64x64 --bandwidth -1", "--bandwidth");
  refused("64x64 --latency -1", "--latency");
  refused("64x64 --bits 0", "--bits");
  refused("64x64 --bits 4 --bytes-per-number 2", "excludes");
  refused("64x64 --measure --flops 3", "--measure");
  refused("64x64 --accumulators sparse", "--accumulators");
  refused("64x64 --split tensor --ranks 65",
          "--ranks is 65 with --split tensor, expected at most 64, the outputs of layer0");
  refused("64x64 --split tensor --ranks 2 --accumulators streamed", "--accumulators is streamed with --split tensor");
  refused("llama-2-7b --target-modules w1", "--target-modules is none of llama-2-7b's");
}

TEST_CASE("loraga_plan: sizes that no model has, and malformed shapes, are refused by name", "[examples]") {
  auto const refused = [](std::string const& line, std::string const& what) {
    INFO(line);
    CHECK_THAT(said(line), Catch::Contains("loraga_plan: MODEL is ") && Catch::Contains(what));
  };
  refused("999999999x999999999*99999 --ranks 2", "'999999999x999999999*99999', expected sides from 1 to 16777216");
  refused("64x16777217", "expected sides from 1 to 16777216");
  refused("99999999999x99999999999", "expected sides from 1 to 16777216");
  refused("18446744073709551680x64", "expected sides from 1 to 16777216");
  refused("64x64*100001", "expected a number of layers from 1 to 100000");
  refused("64x64*99999999999999999999", "expected a number of layers from 1 to 100000");
  refused("64x64*0", "expected a number of layers from 1 to 100000");
  refused("64x64*60000,64x32*60000", "more than 100000 layers with '64x32*60000'");
  refused("64X48", "'64X48' with the part '64X48', expected OUTxIN");
  refused("48x64,32xfoo", "with the part '32xfoo'");
  refused("48x64,foo,32x", "with the part 'foo'");
  refused("48x64,", "with the part ''");
  refused("48x64*-1", "with the part '48x64*-1'");
  test::folder folder;
  refused(folder.path.string(), "a folder without a model");
  CHECK_THAT(said("064x00000000000000000064"), Catch::Contains("Training"));
  // the largest that are allowed take no time that one would notice
  plan::settings s;
  plan::machine const m;
  auto const largest = plan::find_model("16777216x16777216*100000", {}, false, 0);
  auto const p = plan::predict(largest, s, m, plan::accumulator::offloaded, 2);
  CHECK(p.estimate.network.all_reduces == 100000.0 * (1 << 24));  // a column is a message
  CHECK(plan::predict(largest, s, m, plan::accumulator::incremental, 1 << 20).estimate.network.exchanges > 0);
}

TEST_CASE("loraga_plan: options that would do nothing are refused by name", "[examples]") {
  auto const refused = [](std::string const& line, std::string const& option) {
    INFO(line);
    CHECK_THAT(said(line), Catch::Contains("loraga_plan: " + option + " is "));
  };
  refused("llama-2-7b --family bert", "--family");
  refused("llama-2-7b --exclude foo", "--exclude");
  refused("llama-2-7b --exclude q_proj foo", "--exclude");
  refused("llama-2-7b --target-modules q_proj --exclude q_proj", "--exclude");
  refused("llama-2-7b --active-experts 2", "--active-experts");
  refused("mixtral-8x7b --active-experts 2", "--active-experts");
  refused("64x64 --active-experts 2", "--active-experts");
  refused("64x64 --exclude foo", "--exclude");
  refused("64x64 --family llama", "--family");
  refused("64x64 --target-modules foo", "--target-modules");
  test::small_decoder const small;
  refused(small.safetensors().string() + " --active-experts 2", "--active-experts");
  CHECK_THAT(said("llama-2-7b --active-experts 0"), Catch::Contains("--active-experts"));
  auto const text = said("llama-2-7b --family llama --exclude q_proj --ranks 1 --accumulators incremental");
  CHECK_THAT(text, Catch::Contains("192 layers get adapters"));
  CHECK_THAT(said("mixtral-8x7b --ranks 1 --accumulators incremental"), Catch::Contains("896 layers get adapters"));
}

TEST_CASE("loraga_plan: files that cannot be written are refused before anything is printed", "[examples]") {
  test::folder folder;
  for (std::string const option : {"--json", "--plot"}) {
    std::vector<std::string> const words{"loraga_plan", "64x64", option, (folder / "missing" / "x").string()};
    std::vector<char const*> argv;
    for (auto const& w : words) argv.push_back(w.c_str());
    std::ostringstream out;
    auto const run = [&] { tools::run_plan(tools::read_plan_options(4, argv.data()), out); };
    CHECK_THROWS_AS(run(), file_error);
    CHECK(out.str().empty());
  }
  auto const both = (folder / "x").string();
  CHECK_THAT(said("64x64 --json " + both + " --plot " + both), Catch::Contains("--plot is"));
  CHECK(std::filesystem::is_empty(folder.path));
}

TEST_CASE("loraga_plan: ranks without work, parts that differ, and words for one and many", "[examples]") {
  std::string const few = "64x64 --accumulators incremental dense ";
  auto const text = said(few);
  CHECK_THAT(text, Catch::Contains("\nof 64 ranks 56, of 1024 ranks 1016 have no micro-batch: --batches is 8\n"));
  CHECK_THAT(said(few + "--ranks 9 9"), Catch::Contains("\nof 9 ranks 1 has no micro-batch: --batches is 8\n"));
  CHECK_THAT(said(few + "--ranks 8"), !Catch::Contains("no micro-batch"));
  CHECK_THAT(
      said(few + "--split tensor --ranks 1 2 3 5"),
      Catch::Contains("\non 3 ranks 1 layer, on 5 ranks 1 layer have parts that are not equal: the largest count\n"));
  CHECK_THAT(said(few + "--split tensor --ranks 1 2 64"), !Catch::Contains("not equal"));
  CHECK_THAT(said(few + "--split tensor --ranks 16"), !Catch::Contains("no micro-batch"));
  CHECK_THAT(text, Catch::Contains("64x64: 4096 parameters") &&
                       Catch::Contains("1 layer gets an adapter of rank 8, 1024 parameters;"));
  CHECK_THAT(said("64x64*2 --batches 1 --steps 1"), Catch::Contains("2 layers get adapters") &&
                                                        Catch::Contains("1 micro-batch of 4096 tokens") &&
                                                        Catch::Contains("1 step of 65536 tokens"));
  CHECK(plan::duration(3 * 86400) == "3.00 days");
  CHECK(plan::duration(12345 * 86400.0) == "12345 days");
  CHECK(plan::duration(1234567 * 86400.0) == "1.23e+06 days");
}

TEST_CASE("loraga_plan: its table and its files", "[examples]") {
  test::folder folder;
  auto const path = [&](char const* name) { return (folder / name).string(); };
  auto const text = said("4096x4096 --ranks 1 1024 --json " + path("plan.json"));
  for (auto const* word :
       {"Estimate: 8 micro-batches of 4096 tokens", "Start: LoRA-GA's", "Training: 1000 steps", "1.6 %", "streamed"})
    CHECK_THAT(text, Catch::Contains(word));
  auto const json = nlohmann::json::parse(test::read_file(path("plan.json")));
  REQUIRE(json["predictions"].size() == 16);
  auto const& many = json["predictions"][8 + 3];
  CHECK(many["ranks"] == 1024);
  CHECK(many["accumulator"] == "incremental");
  // of 4096 x 4096 at rank 8: 32 triplets, below 2 %
  double const share = 1 - 1 / 1024.0;  // whole once to a partner, and a share of everyone's copy
  CHECK(many["estimate"]["of_dense_traffic"].get<double>() ==
        Approx(32 * 8193 / (4096.0 * 4096) * (1 + share) / (2 * share)).epsilon(1e-12));
  CHECK(many["estimate"]["of_dense_traffic"].get<double>() < 0.02);
  CHECK(json["predictions"][0]["estimate"]["of_dense_traffic"].is_null());
  for (auto const& p : json["predictions"])
    for (auto const* phase : {"estimate", "start", "step"}) {
      CHECK(p[phase]["seconds"].get<double>() ==
            p[phase]["compute_seconds"].get<double>() + p[phase]["network_seconds"].get<double>());
      CHECK((p[phase]["network_seconds"].get<double>() > 0) == (p["ranks"] > 1));
    }
  CHECK_THAT(said("64x64 --json " + path("plan.json")), Catch::Contains("plan.json"));  // is there already
  CHECK_THAT(said("64x64 --ranks 2 --overwrite --json " + path("plan.json")), Catch::Contains("Training"));
  CHECK(nlohmann::json::parse(test::read_file(path("plan.json")))["predictions"].size() == 8);

  bool const drawn = std::system("command -v gnuplot > /dev/null") == 0;
  auto const picture = said("64x64,256x64*3 --ranks 1 2 16 --plot " + path("plan.png"));
  CHECK_THAT(picture, Catch::Contains(drawn ? "Training" : "gnuplot is not installed"));
  if (drawn) CHECK(test::read_file(path("plan.png")).substr(1, 3) == "PNG");
  if (drawn)
    CHECK_THAT(said("64x64 --ranks 1 --split tensor --overwrite --plot " + path("plan.png")),
               Catch::Contains("Training"));
  std::string const usual = std::getenv("PATH");
  setenv("PATH", "/nowhere", 1);
  CHECK_THAT(said("64x64 --plot " + path("other.png")), Catch::Contains("gnuplot is not installed"));
  setenv("PATH", usual.c_str(), 1);
  CHECK(!std::filesystem::exists(path("other.png")));
}

TEST_CASE("loraga_plan: more ranks and a faster machine never take longer", "[examples]") {
  auto const model = plan::find_model("llama-2-7b", named({"q_proj", "down_proj"}), false, 0);
  plan::settings s;
  s.batches = 64;
  plan::machine const m;
  for (auto const& [name, a] : plan::accumulators()) {
    INFO(name);
    auto const one = plan::predict(model, s, m, a, 1), eight = plan::predict(model, s, m, a, 8);
    CHECK(one.estimate.network_seconds == 0);
    CHECK(eight.estimate.compute_seconds < one.estimate.compute_seconds / 4);
    CHECK(eight.start.compute_seconds < one.start.compute_seconds / 7 + 1e-3);
    CHECK(eight.step.compute_seconds < one.step.compute_seconds / 7);
    for (auto rate : {&plan::machine::flops, &plan::machine::memory_bandwidth, &plan::machine::small_flops,
                      &plan::machine::bandwidth}) {
      auto faster = m;
      faster.*rate *= 10;
      CHECK(plan::predict(model, s, faster, a, 8).estimate.seconds() <= eight.estimate.seconds());
    }
    auto slower = m;
    slower.latency *= 10;
    CHECK(plan::predict(model, s, slower, a, 8).estimate.seconds() > eight.estimate.seconds());
  }
}

TEST_CASE("loraga_plan: the machine is measured", "[examples]") {
  cpu be(1);
  plan::machine m;
  m.bandwidth = 123;
  plan::measure(be, m);
  for (double const rate : {m.flops, m.thin_flops, m.double_flops, m.small_flops, m.memory_bandwidth}) {
    CHECK(rate > 1e7);
    CHECK(rate < 1e13);
  }
  CHECK(m.bandwidth == 123);
}

}  // namespace plan_program_tests
