#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "../finetune/option_checks.hpp"

namespace sentiment {

namespace {

template <class T>
void require_distinct(char const* option, std::vector<T> values) {
  std::sort(values.begin(), values.end());
  if (std::adjacent_find(values.begin(), values.end()) != values.end())
    throw std::runtime_error(std::string(option) + " takes each once");
}

void add_places(CLI::App& app, options& o) {
  app.add_option("--model", o.model, "folder of the pre-trained encoder")->capture_default_str()->take_last();
  app.add_option("--data", o.data, "folder of the VADER ground-truth files")->capture_default_str()->take_last();
  app.add_option("--out", o.out, "folder for results, summary.json, curves.csv and checkpoints")
      ->capture_default_str()
      ->take_last();
  app.add_option("--device", o.device, "where everything runs")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->take_last();
  app.add_option("--threads", o.threads,
                 "runs side by side, or threads of a single run (default: one per core, 4 on cuda)")
      ->check(CLI::PositiveNumber);
}

}  // namespace

options parse_options(int argc, char** argv) {
  options o;
  std::vector<std::string> names;
  for (auto const& m : all_methods()) names.push_back(m.name);
  o.run.rate = o.run.ratio = o.run.gamma = 0;
  CLI::App app{
      "Fine-tunes all-MiniLM-L6-v2 for sentiment: every method on every set and seed, one run each. A killed program "
      "goes on where it was when it is started again with the same options."};
  CLI::Validator const positive([](std::string& text) { return finetune::positive_number(text); }, "POSITIVE");
  add_places(app, o);
  app.add_option("--methods", o.methods, "which methods")->capture_default_str()->check(CLI::IsMember(names));
  app.add_option("--sets", o.sets, "which sets")
      ->capture_default_str()
      ->check(CLI::IsMember({"movie", "amazon", "nyt", "tweets"}));
  app.add_option("--seeds", o.seeds, "seeds of head, data order and gradient sample")->capture_default_str();
  app.add_option("--lr", o.run.rate, "learning rate (default: each method's own)")->check(positive);
  app.add_option("--rank", o.run.rank, "rank of the adapters")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--alpha", o.run.alpha, "alpha of the adapters' scaling")->capture_default_str()->check(positive);
  app.add_option("--gamma", o.run.gamma, "LoRA-GA's gamma (default: 16; lora-one: 128)")->check(positive);
  app.add_option("--ratio", o.run.ratio, "LoRA+'s ratio (default: 16 for lora+)")->check(positive);
  auto* steps = app.add_option("--steps", o.run.steps, "training steps per run")
                    ->capture_default_str()
                    ->check(CLI::PositiveNumber);
  app.add_option("--epochs", o.run.epochs, "passes over the training part, instead of steps")
      ->check(CLI::PositiveNumber)
      ->excludes(steps);
  app.add_option("--batch", o.run.batch, "snippets per step")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--evaluate-every", o.run.evaluate_every, "steps between evaluations")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--checkpoint-every", o.checkpoint_every, "steps between checkpoints")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_flag("--fresh", o.fresh, "forget what the output folder holds of these runs and start anew");
  auto* plan =
      app.add_option("--plan", o.plan, "file of runs and measurements, one JSON object per line; see plan.hpp");
  app.add_option("--results", o.results, "file their results are appended to")->needs(plan);
  try {
    app.parse(argc, argv);
    if (!o.plan.empty() && o.results.empty()) throw CLI::RequiredError("--results");
  } catch (CLI::ParseError const& end) {
    std::exit(app.exit(end));
  }
  require_distinct("--seeds", o.seeds);
  require_distinct("--methods", o.methods);
  require_distinct("--sets", o.sets);
  if (o.threads == 0) o.threads = finetune::usual_threads(o.device);
  return o;
}

}  // namespace sentiment
