#include "options.hpp"

#include <CLI/CLI.hpp>

namespace sentiment {

options::options() {
  data = "build/vader";
  out = "out/sentiment";
  methods = {"full", "lora", "lora-ga"};
  sets = {"movie"};
  run.rate = run.ratio = run.gamma = 0;
}

options parse_options(int argc, char** argv) {
  options o;
  CLI::App app{
      "Fine-tunes all-MiniLM-L6-v2 for sentiment: every method on every set and seed, one run each. A killed program "
      "goes on where it was when it is started again with the same options."};
  training::add_options(app, o, {"estimate", "passes", "settle"});
  app.add_option("--model", o.model, "folder of the pre-trained encoder")->capture_default_str()->take_last();
  app.add_option("--sets", o.sets, "which sets")
      ->capture_default_str()
      ->check(CLI::IsMember({"movie", "amazon", "nyt", "tweets"}));
  training::add_comparison_options(app, o);
  training::read_options(app, o, argc, argv);
  training::require_distinct("--sets", o.sets);
  return o;
}

}  // namespace sentiment
