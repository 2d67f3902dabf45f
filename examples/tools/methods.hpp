#pragma once
#include <loraga/core/error.hpp>
#include <vector>

// The starts that loraga_init knows, and what follows from the choice of one.

namespace tools {

using namespace loraga;

enum class start_method {
  lora,
  gaussian,
  orthogonal,
  gaussian_pair,
  pissa,
  milora,
  olora,
  corda,
  eva,
  lora_ga,
  lora_one,
  gora,
  lora_sb
};

/// What A and B are made from.
enum class start_source { random, weights, gradients, inputs };

/// What the model is at first.
enum class start_model {
  unchanged,  ///< B*A = 0
  anchored,   ///< B*A is not 0, and is taken back: from the base, or by the adapter's second half
  ahead       ///< one step of training ahead: W stays, and B*A is that step
};

/// How ranks are found.
enum class rank_rule {
  same,        ///< --rank for every layer
  spectra,     ///< allocate_ranks
  importance,  ///< ranks_by_importance: GoRA's
  explained    ///< redistribute_ranks: EVA's
};

struct method_facts {
  start_method method;
  char const* name;
  start_source source;
  start_model model;
  bool rank_stable = false;                        ///< s = alpha/sqrt(r), if nothing else is said
  rank_rule ranks = rank_rule::same;               ///< if nothing else is said
  index_t triplets_per_rank = 1;                   ///< that a rank covers of what it is made from
  index_t (*highest)(index_t, index_t) = nullptr;  ///< rank for W out x in; any, if it is not there
};

inline std::vector<method_facts> const& all_methods() {
  using enum start_method;
  using enum start_source;
  using enum start_model;
  constexpr auto narrow = [](index_t out, index_t in) { return std::min(out, in); };
  constexpr auto half = [](index_t out, index_t in) { return std::min(out, in) / 2; };
  constexpr auto wide = [](index_t, index_t in) { return in; };
  static std::vector<method_facts> const all{
      {lora, "lora", random, unchanged},
      {gaussian, "gaussian", random, unchanged},
      {orthogonal, "orthogonal", random, unchanged},
      {gaussian_pair, "gaussian-pair", random, anchored},
      {pissa, "pissa", weights, anchored, false, rank_rule::same, 1, narrow},
      {milora, "milora", weights, anchored, false, rank_rule::same, 1, narrow},
      {olora, "olora", weights, anchored, false, rank_rule::same, 1, narrow},
      {corda, "corda", inputs, anchored, false, rank_rule::same, 1, narrow},
      {eva, "eva", inputs, unchanged, false, rank_rule::explained, 1, wide},
      {lora_ga, "lora-ga", gradients, anchored, true, rank_rule::same, 2, half},
      {lora_one, "lora-one", gradients, ahead, true, rank_rule::same, 1, narrow},
      {gora, "gora", gradients, ahead, true, rank_rule::importance, 1, wide},
      {lora_sb, "lora-sb", gradients, ahead, false, rank_rule::same, 1, narrow},
  };
  return all;
}

inline method_facts const& facts_of(start_method method) { return all_methods()[static_cast<std::size_t>(method)]; }

/// Names of methods, for a message: "lora-ga, lora-one or gora".
inline std::string names_of(std::vector<start_method> const& methods) {
  std::string text;
  for (std::size_t i = 0; i < methods.size(); ++i)
    text += std::string(i == 0 ? "" : i + 1 == methods.size() ? " or " : ", ") + facts_of(methods[i]).name;
  return text;
}

}  // namespace tools
