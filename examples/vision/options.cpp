#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace vision {

namespace {

/// The methods of the comparison, LoRA-GA and its random control once per gamma.
std::vector<std::string> usual_methods(std::vector<double> const& gammas) {
  std::vector<std::string> names{"full", "lora", "rslora", "lora+", "pissa"};
  auto const number = [](double g) {
    auto text = std::to_string(g);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
    return text;
  };
  for (auto const* kind : {"lora-ga-", "ga-random-"})
    for (double const g : gammas) names.push_back(kind + number(g));
  return names;
}

/// Those that were asked for, in the comparison's order; others of the library behind them.
std::vector<std::string> choose(std::vector<std::string> names, std::vector<std::string> const& wanted) {
  if (wanted.empty()) return names;
  auto const has = [](auto const& list, auto const& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  std::erase_if(names, [&](auto const& name) { return !has(wanted, name); });
  for (auto const& name : wanted)
    if (!has(names, name)) names.push_back(name);
  return names;
}

}  // namespace

options::options() {
  data = "data";
  out = "out/vision";
  seeds = {1, 2, 3};
  run.set = "new-classes";
  run.rate = 1e-3;
  run.ratio = run.gamma = 0;
  run.steps = 100;
  run.batch = 32;
  run.evaluate_every = 5;
  run.sample = usual_sample;
}

options parse_options(int argc, char** argv) {
  options o;
  std::vector<double> gammas{64, 16};
  CLI::App app{
      "Fine-tunes a small pre-trained image classifier to new classes: full fine-tuning, LoRA and its variants, PiSSA, "
      "LoRA-GA, and LoRA-GA's form on a random matrix."};
  training::add_options(app, o, {"gamma", "estimate", "passes", "settle"});
  app.add_option("--model", o.model, "a vision transformer, or a convolutional network")
      ->capture_default_str()
      ->check(CLI::IsMember({"transformer", "convolution"}))
      ->take_last();
  app.add_option("--cache", o.cache, "folder for the pre-trained weights")->capture_default_str()->take_last();
  app.add_option("--rates", o.rates, "file of each method's best rate: read by panel b, written by --sweep")
      ->required()
      ->take_last();
  app.add_option("--panels", o.panels, "a: one common rate, b: own best rates, c: coverage and alignment")
      ->check(CLI::IsMember({"a", "b", "c"}));
  app.add_option("--gamma", gammas, "LoRA-GA's gammas")
      ->check(CLI::Validator([](std::string& text) { return training::positive_number(text); }, "POSITIVE"));
  app.add_flag("--sweep", o.sweeping, "choose each method's rate on validation images and write it to --rates");
  training::read_options(app, o, argc, argv);
  training::require_distinct("--gamma", gammas);
  if (o.sweeping && !o.methods.empty()) throw std::runtime_error("--sweep writes a whole file: leave out --methods");
  o.methods = choose(usual_methods(gammas), o.methods);
  return o;
}

}  // namespace vision
