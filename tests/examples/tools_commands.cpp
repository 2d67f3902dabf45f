// The commands that docs/tools.md shows, run as they stand there; --help and --version.
#include "../../examples/tools/adapter_options.hpp"
#include "../../examples/tools/init_manual.hpp"
#include "../../examples/tools/plan_job.hpp"
#include "../../examples/tools/plan_manual.hpp"
#include "../support/small_decoder.hpp"
#include "tools_model.hpp"

using namespace loraga;

namespace {

/// Commands in a document's ```sh blocks, as words, with lines that end in \ joined and comments dropped.
std::vector<std::vector<std::string>> commands_of(std::string const& document) {
  std::vector<std::vector<std::string>> commands;
  std::istringstream lines(document);
  std::string joined;
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) inside = line == "```sh";
    else if (inside) {
      joined += line.substr(0, line.find(" #"));
      if (joined.ends_with('\\')) {
        joined.back() = ' ';
        continue;
      }
      std::istringstream words(joined);
      commands.emplace_back(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>());
      joined.clear();
    }
  }
  return commands;
}

std::vector<char const*> pointers(std::vector<std::string> const& words) {
  std::vector<char const*> list;
  for (auto const& w : words) list.push_back(w.c_str());
  return list;
}

struct linear_shape {
  std::string name;
  index_t out, in;
};
std::vector<linear_shape> const linear_shapes{{"self_attn.q_proj", 16, 16}, {"self_attn.k_proj", 8, 16},
                                              {"self_attn.v_proj", 8, 16},  {"self_attn.o_proj", 16, 16},
                                              {"mlp.gate_proj", 24, 16},    {"mlp.up_proj", 24, 16},
                                              {"mlp.down_proj", 16, 24}};

/// A small llama in the working folder, with what was captured of it, and one in GGUF: what the document's commands
/// work on.
struct working_folder {
  test::folder folder;
  std::filesystem::path before = std::filesystem::current_path();

  working_folder() {
    std::filesystem::current_path(folder.path);
    test::named_weights weights{{"model.embed_tokens.weight", test::random(20, 16, 1)},
                                {"lm_head.weight", test::random(20, 16, 2)}};
    test::named_weights gradients, captured;
    std::uint64_t seed = 10;
    for (std::string const layer : {"model.layers.0.", "model.layers.1."})
      for (auto const& [name, out, in] : linear_shapes) {
        seed += 10;
        weights.emplace_back(layer + name + ".weight", test::random(out, in, seed));
        gradients.emplace_back(layer + name + ".weight", test::random(out, in, seed + 1));
        for (std::string const b : {".0", ".1"}) {
          captured.emplace_back(layer + name + ".dY" + b, test::random(12, out, ++seed));
          captured.emplace_back(layer + name + ".X" + b, test::random(12, in, ++seed));
        }
      }
    test::write_model_folder("model", weights, R"({"model_type":"llama","tie_word_embeddings":false})");
    test::write_model("gradients.safetensors", gradients);
    test::write_model("captured.safetensors", captured);
    test::small_decoder const other;
    std::filesystem::copy(other.gguf(), "model.gguf");
  }
  ~working_folder() { std::filesystem::current_path(before); }
};

std::string tools_document() { return test::read_file(std::string(LORAGA_TEST_DATA) + "/../docs/tools.md"); }

}  // namespace

TEST_CASE("docs/tools.md: its commands run", "[examples]") {
  working_folder const here;
  int inits = 0, others = 0, plans = 0;
  std::set<std::string> methods;
  for (auto const& words : commands_of(tools_document())) {
    std::string line;
    for (auto const& w : words) line += w + " ";
    INFO(line);
    auto const argv = pointers(words);
    auto const argc = static_cast<int>(argv.size());
    if (words.empty()) continue;
    if (words[0] == "loraga_init") {
      cpu be(1);
      auto const options = tools::parse_init_options(argc, argv.data());
      tools::init_job job(be, options);
      CHECK(!job.run().empty());
      methods.insert(options.facts().name);
      ++inits;
      // training is what the document does between its commands
      if (options.anchored()) {
        std::filesystem::remove_all("trained");
        std::filesystem::copy(options.out, "trained", std::filesystem::copy_options::recursive);
      }
    } else if (words[0] == "loraga_adapter") {
      tools::adapter_command_line command;
      command.app.parse(argc, argv.data());
      CHECK_NOTHROW(command.run());
      ++others;
    } else if (words[0] == "loraga_plan") {
      std::ostringstream table;
      tools::run_plan(tools::read_plan_options(argc, argv.data()), table);
      CHECK_THAT(table.str(), Catch::Contains("Training: "));
      ++plans;
    }
  }
  CHECK(inits >= 14);
  CHECK(others >= 4);
  CHECK(plans >= 4);
  for (auto const& facts : tools::all_methods()) {
    INFO(facts.name);
    CHECK(methods.contains(facts.name));
  }
}

TEST_CASE("tools: --version and --help", "[examples]") {
  CHECK(tools::init_manual().version().starts_with("loraga_init (loraga) 0."));
  CHECK(tools::plan_manual().version().starts_with("loraga_plan (loraga) 0."));
  char const* const asked[] = {"loraga_plan", "--help"};
  CHECK_THROWS_AS(tools::read_plan_options(2, asked), CLI::CallForHelp);
  tools::adapter_command_line command;
  char const* const version[] = {"loraga_adapter", "--version"};
  CHECK_THROWS_AS(command.app.parse(2, version), CLI::CallForVersion);
  auto const page = command.app.help();
  for (auto const* section :
       {"NAME\n", "\nSYNOPSIS\n", "\nDESCRIPTION\n", "\nOPTIONS\n", "\nCOMMANDS\n", "\nEXAMPLES\n", "\nFILES\n",
        "\nEXIT STATUS\n", "      --architecture llama|qwen2|qwen3|gpt2|bert|t5\n"})
    CHECK_THAT(page, Catch::Contains(section));
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) CHECK(line.size() <= 90);
}
