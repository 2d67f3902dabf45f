#pragma once
#include "init_options.hpp"

// Which options of loraga_init fit together.

namespace tools {

/// What follows from the method alone. `dashes` stand before the names of options: none where they are not a command
/// line's.
/// errors  value_error that names the option, what is, what was expected and what to do
inline void check_method_options(init_options const& o, std::string const& dashes = "--") {
  using enum start_method;
  std::string const method = dashes + "method " + o.facts().name;
  auto const belongs = [&](bool given, char const* option, std::vector<start_method> const& methods) {
    if (given && std::find(methods.begin(), methods.end(), o.method) == methods.end())
      throw value_error(dashes + option + " is given with " + method + ", expected with " + names_of(methods) +
                        " alone; leave it out or take one of them");
  };
  belongs(o.directions.has_value(), "directions", {lora_ga});
  belongs(o.clip, "clip", {lora_ga});
  belongs(o.scale.has_value(), "scale", {lora_ga, gaussian_pair});
  belongs(o.gamma.has_value(), "gamma", {lora_ga, lora_one, gaussian_pair});
  belongs(o.step.has_value(), "step", {gora, lora_sb});
  belongs(o.part.has_value(), "part", {corda});
  if (o.method != gaussian_pair) return;
  if (o.scale && *o.scale != ga_scale::stable && *o.scale != ga_scale::unit)
    throw value_error(dashes + "scale is one of lora-ga's alone, expected stable or unit with " + method +
                      "; choose one of these");
  if (o.gamma && !o.pair_is_stable())
    throw value_error(dashes + "gamma is given with " + method + ", expected with " + dashes +
                      "scale stable; add that or leave " + dashes + "gamma out");
}

/// errors  value_error that names the option, what is, what was expected and what to do
inline void check_options(init_options const& o) {
  using enum start_method;
  std::string const method = std::string("--method ") + o.facts().name;
  auto const refuse = [](std::string const& option, std::string const& is, std::string const& expected,
                         std::string const& advice) {
    throw value_error(option + " is " + is + ", expected " + expected + "; " + advice);
  };
  auto const of_rule = [&](bool given, char const* option, std::vector<rank_rule> const& rules, char const* names) {
    if (given && std::find(rules.begin(), rules.end(), o.rule()) == rules.end())
      refuse(option, "given", std::string("with --ranks ") + names + " alone", "leave it out or choose these ranks");
  };
  auto const number = [&](char const* option, index_t value, index_t least, index_t most, char const* advice) {
    if (value < least || value > most)
      refuse(option, std::to_string(value), std::to_string(least) + " to " + std::to_string(most), advice);
  };

  if (o.targets.names.empty() && o.targets.expression.empty())
    refuse("--family or --target-modules", "missing", "one of the two", "say which modules get an adapter");
  check_method_options(o);

  number("--rank", o.rank, 1, 1 << 20, "choose a rank in between");
  of_rule(o.parameters.has_value(), "--parameters", {rank_rule::spectra}, "spectra");
  of_rule(o.by_coverage.has_value(), "--gain", {rank_rule::spectra}, "spectra");
  of_rule(o.least_rank.has_value(), "--least-rank", {rank_rule::spectra, rank_rule::importance},
          "spectra or importance");
  of_rule(o.most_rank.has_value(), "--most-rank", {rank_rule::spectra, rank_rule::importance}, "spectra or importance");
  of_rule(o.rho.has_value(), "--rho", {rank_rule::explained}, "explained");
  if (o.method == orthogonal && o.rule() != rank_rule::same)
    refuse("--ranks", "given with " + method, "same", "measured ranks may be odd, and this start wants even ones");
  if (o.method == orthogonal && o.rank % 2 != 0)
    refuse("--rank", std::to_string(o.rank), "an even number with " + method, "choose one");
  if (o.rule() != rank_rule::same && o.rule() != rank_rule::explained) {
    number("--most-rank", o.most(), 1, 1 << 20, "choose a rank in between");
    number("--least-rank", o.least(), 1, o.most(), "choose it up to --most-rank");
  }
  if (o.parameters && *o.parameters < 1)
    refuse("--parameters", std::to_string(*o.parameters), "at least 1", "say how many all adapters may have together");
  if (o.rho && *o.rho < 1) refuse("--rho", std::to_string(*o.rho), "at least 1", "2 is the paper's");

  char const* const rules[] = {"same", "spectra", "importance", "explained"};
  std::string const asker =
      method + (o.rule() == rank_rule::same ? "" : std::string(" --ranks ") + rules[static_cast<int>(o.rule())]);
  if (o.needs_gradients() && o.gradients.empty())
    refuse("--gradients", "missing", "a file of gradients for " + asker, "see FILES in --help for what it holds");
  if (!o.needs_gradients() && !o.gradients.empty())
    refuse("--gradients", "given", "nothing: " + asker + " reads no gradients", "leave it out");
  if (o.needs_inputs() && o.inputs.empty())
    refuse("--inputs", "missing", "a file of layers' inputs X for " + asker, "see FILES in --help for what it holds");
  if (!o.needs_inputs() && !o.inputs.empty())
    refuse("--inputs", "given", "nothing: " + asker + " reads no inputs", "leave it out");
  if (o.skip_unreached && !o.needs_gradients() && !o.needs_inputs())
    refuse("--skip-unreached", "given", "a start from gradients or inputs",
           "leave it out: " + asker + " reads neither");

  if (o.has_anchor() && !o.relative_to)
    refuse("--relative-to", "missing", "original or anchored, because " + method + " does not start at zero",
           "see RELATIVE TO in --help");
  if (!o.has_anchor() && o.anchored())
    refuse("--relative-to", "anchored", "original, or nothing",
           method + (o.facts().model == start_model::ahead ? " leaves the base as it is and starts a step ahead"
                                                           : " starts at zero and changes no base"));
  if (o.anchored() && o.anchored_base.empty())
    refuse("--anchored-base", "missing", "a place for the changed base", "add it, or say --relative-to original");
  if (!o.anchored() && !o.anchored_base.empty())
    refuse("--anchored-base", "given", "with --relative-to anchored alone", "leave it out or say that");
}

}  // namespace tools
