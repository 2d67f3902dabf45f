#include "options.hpp"

#include <CLI/CLI.hpp>

namespace language {

options::options() {
  data = "build/foldoc/foldoc.dict";
  out = "out/language";
  methods = {"lora", "lora-ga"};
  sets = {"foldoc"};
  run.rate = run.ratio = run.gamma = 0;
  run.steps = 80;
  run.batch = 8;
  run.evaluate_every = 20;
  run.sample = {4, 8};
  checkpoint_every = 20;
}

options parse_options(int argc, char** argv) {
  options o;
  CLI::App app{
      "Teaches a quantised language model a dictionary: given a term, foretell its definition. Every method on every "
      "seed, one run each; then the adapters for PEFT and llama.cpp. A killed program goes on where it was when it is "
      "started again with the same options."};
  training::add_options(app, o, {});
  training::add_comparison_options(app, o);
  app.add_option("--model", o.model, "the base: a GGUF file, or a folder with safetensors")
      ->capture_default_str()
      ->take_last();
  app.add_option("--rates", o.rates, "learning rates, each of them for every method (default: each method's own)")
      ->check(CLI::Validator([](std::string& text) { return training::positive_number(text); }, "POSITIVE"));
  auto const count = [&](char const* name, index_t& value, char const* meaning) {
    app.add_option(name, value, meaning)->capture_default_str()->check(CLI::PositiveNumber);
  };
  count("--tokens", o.most_tokens, "tokens that go through the model at a time: more is faster, fewer is less memory");
  count("--longest", o.longest, "tokens of a definition, the rest of which is cut off");
  count("--held-out", o.held_out, "definitions that are evaluated and never trained on");
  count("--answers", o.answers, "held-out terms that the model defines before and after");
  app.get_option("--rates")->excludes(app.get_option("--lr"));
  training::read_options(app, o, argc, argv);
  for (auto const& name : o.methods) training::require_frozen_start(training::find_method(name), o.run);
  if (!o.plan.empty()) throw std::runtime_error("language: --plan is not for this example");
  return o;
}

}  // namespace language
