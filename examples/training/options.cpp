#include "options.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <thread>

namespace training {

namespace {

/// "--evaluate-every" for the field evaluate_every.
std::string option_name(std::string field) {
  std::replace(field.begin(), field.end(), '_', '-');
  return "--" + field;
}

template <class T>
void add_field(CLI::App& app, field const& f, T& value) {
  auto* const option = app.add_option(option_name(f.name), value, f.meaning);
  if constexpr (std::is_floating_point_v<T>) {
    option->check(CLI::Validator([](std::string& text) { return positive_number(text); }, "POSITIVE"));
    if (value > 0) option->capture_default_str();
  } else if constexpr (std::is_integral_v<T>) {
    option->check(f.least > 0 ? CLI::Validator(CLI::PositiveNumber) : CLI::Validator(CLI::NonNegativeNumber));
    if (value > 0) option->capture_default_str();
  } else {
    option->capture_default_str();
  }
}

std::string no_method(std::string const& name) {
  try {
    find_method(name);
    return {};
  } catch (loraga::error const& failure) {
    return failure.what();
  }
}

/// A one-threaded run keeps a CPU core busy; one stream of these small kernels does not fill a GPU.
int usual_threads(std::string const& device) {
  return device == "cuda" ? 4 : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace

std::string positive_number(std::string const& text) {
  char* end = nullptr;
  double const x = std::strtod(text.c_str(), &end);
  return *end == 0 && std::isfinite(x) && x > 0 ? std::string() : text + " is not a positive finite number";
}

void add_options(CLI::App& app, options& o, std::set<std::string> const& own) {
  app.add_option("--data", o.data, "folder of the data")->capture_default_str()->take_last();
  app.add_option("--out", o.out, "folder for what the program writes")->capture_default_str()->take_last();
  app.add_option("--device", o.device, "where everything runs")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->take_last();
  app.add_option("--threads", o.threads,
                 "runs side by side, or threads of a single run (default: one per core, 4 on cuda)")
      ->check(CLI::PositiveNumber);
  app.add_option("--methods", o.methods, "which methods; a gamma may stand behind a name: lora-ga-32")
      ->capture_default_str()
      ->check(CLI::Validator([](std::string& name) { return no_method(name); }, "METHOD"));
  app.add_option("--seeds", o.seeds, "seeds of head, data order and gradient sample")->capture_default_str();
  for_each_field(o.run, [&](field const& f, auto& value) {
    if (f.is_option && !own.contains(f.name)) add_field(app, f, value);
  });
  app.get_option("--epochs")->excludes(app.get_option("--steps"));
  auto* const plan = app.add_option("--plan", o.plan,
                                    "file of runs and measurements, one JSON object per line; see training/plan.hpp");
  app.add_option("--results", o.results, "file their results are appended to")->needs(plan);
}

void read_options(CLI::App& app, options& o, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& end) {
    std::exit(app.exit(end));
  }
  if (!o.plan.empty() && o.results.empty()) throw std::runtime_error("--plan needs --results");
  require_distinct("--seeds", o.seeds);
  require_distinct("--methods", o.methods);
  if (o.threads == 0) o.threads = usual_threads(o.device);
}

void refuse_device(std::string const& command) {
  throw std::runtime_error("--device cuda: this program was built without CUDA; build it with: " + command +
                           " --device cuda, or cmake -DLORAGA_CUDA=ON");
}

int run_program(char const* name, std::function<void()> const& run) try {
  run();
  return 0;
} catch (std::exception const& failure) {
  std::cerr << name << ": " << failure.what() << '\n';
  return 1;
}

}  // namespace training
