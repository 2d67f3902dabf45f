#pragma once
#include <cstdlib>
#include <loraga/adapter/any_adapter.hpp>
#include <loraga/init/lora_ga.hpp>
#include <vector>

#include "spec.hpp"

namespace training {

/// Where A and B come from; starts.hpp has the code of each. `own`: what the adapter's class begins with.
enum class start {
  none,
  own,
  kaiming,
  gaussian_pair,
  pissa,
  milora,
  olora,
  corda,
  eva,
  lora_one,
  lora_ga,
  lora_sb,
  gora
};
/// What takes the gradient's place in a start that reads one.
enum class direction_source { gradient, random_matrix };
using loraga::adapter_kind;

/// What a method is: one line of the table below, and nothing else knows its name.
struct method {
  std::string name;
  start how;
  /// Learning rate where none is asked for: the best of docs/evidence.md's sweep, of those that are not in it a guess.
  double rate;
  bool rank_stable = false;  ///< s = alpha/sqrt(r) instead of alpha/r
  double ratio = 1;          ///< LoRA+, where none is asked for
  double gamma = 16;         ///< where none is asked for
  adapter_kind kind = adapter_kind::lora;
  direction_source source = direction_source::gradient;
  loraga::ga_scale scale = loraga::ga_scale::stable;

  bool full() const { return how == start::none; }
  /// Whether its ranks are found from what its start is measured from.
  bool own_ranks() const { return how == start::eva || how == start::gora; }
  /// Whether it starts from a gradient of the pre-trained weights.
  bool reads_gradient() const {
    return (how == start::lora_ga && source == direction_source::gradient) || how == start::lora_one;
  }
  bool reads_gamma() const { return how == start::lora_ga || how == start::lora_one || how == start::gaussian_pair; }
};

inline std::vector<method> const& all_methods() {
  using enum adapter_kind;
  static std::vector<method> const all{
      {.name = "full", .how = start::none, .rate = 1e-4},
      {.name = "lora", .how = start::kaiming, .rate = 3e-3},
      {.name = "rslora", .how = start::kaiming, .rate = 1e-3, .rank_stable = true},
      {.name = "lora+", .how = start::kaiming, .rate = 3e-4, .ratio = 16},
      {.name = "pissa", .how = start::pissa, .rate = 1e-3},
      {.name = "milora", .how = start::milora, .rate = 3e-3},
      {.name = "olora", .how = start::olora, .rate = 1e-3},
      {.name = "corda", .how = start::corda, .rate = 1e-3},
      {.name = "eva", .how = start::eva, .rate = 1e-3},
      {.name = "lora-one", .how = start::lora_one, .rate = 1e-3, .rank_stable = true, .gamma = 128},
      {.name = "lora-sb", .how = start::lora_sb, .rate = 1e-2, .kind = lora_sb},
      {.name = "gora", .how = start::gora, .rate = 1e-3, .rank_stable = true},
      {.name = "dora", .how = start::kaiming, .rate = 3e-3, .kind = dora},
      {.name = "adalora", .how = start::own, .rate = 3e-2, .kind = adalora},
      {.name = "lora-ga", .how = start::lora_ga, .rate = 1e-4, .rank_stable = true},
      {.name = "lora-ga-64", .how = start::lora_ga, .rate = 3e-4, .rank_stable = true, .gamma = 64},
      {.name = "dora+lora-ga", .how = start::lora_ga, .rate = 1e-4, .rank_stable = true, .kind = dora},
      {.name = "adalora+lora-ga", .how = start::lora_ga, .rate = 1e-4, .rank_stable = true, .kind = adalora},
      {.name = "ga-random",
       .how = start::lora_ga,
       .rate = 1e-3,
       .rank_stable = true,
       .source = direction_source::random_matrix},
      // the arms of the ablation between lora and lora-ga
      {.name = "gaussian", .how = start::gaussian_pair, .rate = 3e-4, .scale = loraga::ga_scale::unit},
      {.name = "+so", .how = start::gaussian_pair, .rate = 3e-4, .rank_stable = true},
      {.name = "+ga", .how = start::lora_ga, .rate = 3e-4, .scale = loraga::ga_scale::unit},
  };
  return all;
}

/// The method of a name in the table, or of one with a gamma behind it: lora-ga-32.
/// errors  value_error naming the methods there are
inline method find_method(std::string const& name) {
  std::string names;
  for (auto const& m : all_methods()) {
    if (m.name == name) return m;
    names += (names.empty() ? "" : ", ") + m.name;
  }
  auto const dash = name.rfind('-');
  if (dash != name.npos && dash + 1 < name.size()) {
    char* end = nullptr;
    double const gamma = std::strtod(name.c_str() + dash + 1, &end);
    for (auto const& m : all_methods())
      if (*end == 0 && gamma > 0 && gamma < 1e9 && m.reads_gamma() && name.compare(0, dash, m.name) == 0) {
        auto found = m;
        found.name = name;
        found.gamma = gamma;
        return found;
      }
  }
  loraga::raise<loraga::value_error>("training", "method", "'" + name + "'", "one of " + names);
}

/// The spec of a run of this method: its own rate, ratio and gamma stand where s has 0.
inline train_spec spec_of(train_spec s, std::string const& name) {
  auto const how = find_method(name);
  s.method = name;
  if (s.rate == 0) s.rate = how.rate;
  if (s.ratio == 0) s.ratio = how.ratio;
  if (s.gamma == 0) s.gamma = how.gamma;
  return s;
}

/// For a base that is not written.
/// errors  value_error for a method that changes the base, or needs more of it than a packed one gives; for passes > 2
inline void require_frozen_start(method const& how, train_spec const& s) {
  using enum start;
  bool const suits = how.kind == adapter_kind::lora && how.how != none && how.how != corda && !how.own_ranks();
  if (!suits)
    loraga::raise<loraga::value_error>("training", "method", "'" + how.name + "'",
                                       "one whose start leaves the base as it is: lora, rslora, lora+, pissa, milora, "
                                       "olora, lora-one, lora-ga, ga-random, gaussian, +so or +ga");
  bool const one_shot = s.estimate == "one-shot";
  if (!one_shot && s.estimate != "streamed")
    loraga::raise<loraga::value_error>("training", "estimate", "'" + s.estimate + "'", "streamed or one-shot");
  if (one_shot && (s.passes > 1 || s.settle > 0))
    loraga::raise<loraga::value_error>("training", "estimate", "one-shot",
                                       "streamed, where there is to be a second pass or an early stop");
  if (s.passes > 2)
    loraga::raise<loraga::value_error>("training", "passes", std::to_string(s.passes),
                                       "1 or 2: a third changes nothing");
}

inline loraga::ga_directions parse_directions(std::string const& name) {
  if (name == "ArB2r") return loraga::ga_directions::ArB2r;
  if (name == "A2rBr") return loraga::ga_directions::A2rBr;
  if (name == "ArBr") return loraga::ga_directions::ArBr;
  if (name == "random") return loraga::ga_directions::random;
  loraga::raise<loraga::value_error>("training", "directions", "'" + name + "'", "ArB2r, A2rBr, ArBr or random");
}

}  // namespace training
