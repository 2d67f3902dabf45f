#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "option_checks.hpp"

namespace finetune {

namespace {

template <class T>
bool distinct(std::vector<T> values) {
  std::sort(values.begin(), values.end());
  return std::adjacent_find(values.begin(), values.end()) == values.end();
}

std::vector<method> choose_methods(std::vector<double> const& gammas, std::vector<std::string> const& names) {
  auto methods = all_methods(gammas);
  for (auto const& name : names)
    if (std::none_of(methods.begin(), methods.end(), [&](auto const& m) { return m.name == name; }))
      throw std::runtime_error("--methods: there is no method " + name);
  if (!names.empty())
    std::erase_if(methods, [&](auto const& m) { return std::find(names.begin(), names.end(), m.name) == names.end(); });
  return methods;
}

void add_files(CLI::App& app, options& o) {
  app.add_option("--data", o.data, "folder of the uncompressed Fashion-MNIST files")
      ->capture_default_str()
      ->take_last();
  app.add_option("--cache", o.cache, "folder for the pre-trained checkpoint")->capture_default_str()->take_last();
  app.add_option("--out", o.out, "folder for summary.json and curves.csv")->capture_default_str()->take_last();
  app.add_option("--rates", o.rates, "file of each method's best rate: read by panel b, written by --sweep")
      ->required()
      ->take_last();
}

}  // namespace

options parse_options(int argc, char** argv) {
  options o;
  std::vector<std::string> names;
  std::vector<double> gammas{64, 16};
  CLI::App app{
      "Fine-tunes a small pre-trained vision transformer to new classes: full fine-tuning, LoRA and its variants, "
      "PiSSA, LoRA-GA, and LoRA-GA's form on a random matrix."};
  CLI::Validator const positive([](std::string& text) { return positive_number(text); }, "POSITIVE");
  add_files(app, o);
  app.add_option("--device", o.device, "where everything runs")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->take_last();
  app.add_option("--methods", names, "which methods (default: all; lora is needed for 'steps to LoRA')");
  app.add_option("--panels", o.panels, "a: one common rate, b: own best rates, c: coverage and alignment")
      ->check(CLI::IsMember({"a", "b", "c"}));
  app.add_option("--seeds", o.seeds, "seeds of head, batches and gradient sample");
  app.add_option("--rank", o.run.rank, "rank, capped per layer at half the smaller side")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--alpha", o.run.alpha, "alpha of the adapters' scaling")->capture_default_str()->check(positive);
  app.add_option("--gamma", gammas, "LoRA-GA's gammas")->check(positive);
  app.add_option("--lr", o.rate, "the common rate of panel a")->capture_default_str()->check(positive);
  app.add_option("--steps", o.run.steps, "training steps per run")->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads, "runs side by side (default: one per core on cpu, 4 on cuda)")
      ->check(CLI::PositiveNumber);
  app.add_flag("--sweep", o.sweeping, "choose each method's rate on validation images and write it to --rates");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& end) {
    std::exit(app.exit(end));
  }
  if (!distinct(o.seeds) || !distinct(gammas)) throw std::runtime_error("--seeds and --gamma take each number once");
  if (o.sweeping && !names.empty()) throw std::runtime_error("--sweep writes a whole file: leave out --methods");
  o.methods = choose_methods(gammas, names);
  if (o.threads == 0) o.threads = usual_threads(o.device);
  return o;
}

}  // namespace finetune
