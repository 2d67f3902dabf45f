#pragma once
#include <loraga/init/corda.hpp>
#include <loraga/init/lora_ga.hpp>
#include <loraga/io/module_match.hpp>
#include <loraga/io/peft.hpp>
#include <loraga/svd/automatic.hpp>

#include "methods.hpp"

namespace tools {

/// What loraga_init is to do. What is not said has the method's own value.
struct init_options {
  std::filesystem::path base, gradients, inputs, out;
  start_method method = start_method::lora_ga;
  index_t rank = 8;  ///< of every layer, or on average
  double alpha = 16;
  std::optional<bool> rank_stable = {};  ///< s = alpha/sqrt(r)

  std::optional<rank_rule> ranks = {};
  std::optional<index_t> parameters = {};  ///< spectra: the budget, in place of the mean rank's
  std::optional<index_t> least_rank = {}, most_rank = {};
  std::optional<double> rho = {};        ///< explained: the highest rank, as a multiple of the mean
  std::optional<bool> by_coverage = {};  ///< spectra: every layer alike, or larger gradients count for more

  std::optional<ga_directions> directions = {};
  std::optional<ga_scale> scale = {};
  std::optional<double> gamma = {}, step = {};
  std::optional<corda_part> part = {};
  bool clip = false;
  svd_quality quality = svd_quality::balanced;
  std::uint64_t seed = 0;

  module_selection targets = {};
  std::optional<bool> fan_in_fan_out = {};        ///< how linear layers lie; nothing: as the base's config.json has it
  bool conv1d_family = false;                     ///< where that says nothing: as in GPT-2
  std::vector<name_change> renames = {};          ///< of the base's names, into module names
  std::vector<std::string> embeddings = {};       ///< modules that are embeddings, beside those known by name
  bool skip_unreached = false;                    ///< leaves out modules without a gradient or inputs, or with zeros
  std::string family_prefix = {};                 ///< of module names, if no name in the base's files has it
  std::optional<std::string> module_prefix = {};  ///< of module names, in any case
  std::optional<peft_base> relative_to = {};      ///< must be said where a start is anchored
  std::filesystem::path anchored_base = {};       ///< where the changed base goes
  std::string base_name = {}, task_type = {};     ///< for adapter_config.json
  dtype type = dtype::F32;
  overwrite may_replace = overwrite::no;
  int threads = 0;

  method_facts const& facts() const { return facts_of(method); }
  bool has_anchor() const { return facts().model == start_model::anchored; }
  bool anchored() const { return relative_to == peft_base::anchored; }
  rank_rule rule() const { return ranks.value_or(facts().ranks); }
  bool stable_ranks() const {
    bool const stable_pair = method == start_method::gaussian_pair && pair_is_stable();
    return rank_stable.value_or(facts().rank_stable || stable_pair);
  }
  bool pair_is_stable() const { return scale == ga_scale::stable; }
  /// Spectra of the weights, where a start from these has no gradients.
  bool weight_spectra() const {
    return rule() == rank_rule::spectra && method == start_method::pissa && gradients.empty();
  }
  bool needs_gradients() const {
    return facts().source == start_source::gradients || rule() == rank_rule::importance ||
           (rule() == rank_rule::spectra && !weight_spectra());
  }
  bool needs_inputs() const { return facts().source == start_source::inputs || rule() == rank_rule::explained; }
  index_t least() const {
    return least_rank.value_or(rule() == rank_rule::importance ? std::max<index_t>(1, rank / 2) : 1);
  }
  index_t most() const { return most_rank.value_or(std::max(4 * rank, least())); }
};

/// The command line's options, checked. Ends the program after --help and --version, and with 2 if they are wrong.
init_options parse_init_options(int argc, char const* const* argv);

}  // namespace tools
