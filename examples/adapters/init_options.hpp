#pragma once
#include <loraga/init/lora_ga.hpp>
#include <loraga/io/module_match.hpp>
#include <loraga/io/peft.hpp>
#include <loraga/svd/automatic.hpp>

namespace adapters {

using namespace loraga;

enum class start_method { lora_ga, pissa, lora, lora_gaussian, orthogonal };

/// What loraga_init is to do.
struct init_options {
  std::filesystem::path base, gradients, out;
  start_method method = start_method::lora_ga;
  index_t rank = 8;
  double alpha = 16;
  std::optional<bool> rank_stable = {};  ///< s = alpha/sqrt(r); LoRA-GA's own, if it is not said
  lora_ga_init lora_ga = {};
  svd_quality quality = svd_quality::balanced;
  std::uint64_t seed = 0;
  module_selection targets = {};
  std::optional<bool> fan_in_fan_out = {};        ///< how linear layers lie; nothing: as the base's config.json has it
  bool conv1d_family = false;                     ///< where that says nothing: as in GPT-2
  std::vector<name_change> renames = {};          ///< of the base's names, into module names
  std::vector<std::string> embeddings = {};       ///< modules that are embeddings, beside those known by name
  bool skip_zero_gradients = false;               ///< leaves out modules without a gradient, or with one of zeros
  std::string family_prefix = {};                 ///< of module names, if no name in the base's files has it
  std::optional<std::string> module_prefix = {};  ///< of module names, in any case
  std::optional<peft_base> relative_to = {};      ///< must be said where a method changes the start
  std::filesystem::path anchored_base = {};       ///< where the changed base goes
  std::string base_name = {}, task_type = {};     ///< for adapter_config.json
  dtype type = dtype::F32;
  overwrite may_replace = overwrite::no;
  int threads = 0;

  bool from_gradients() const { return method == start_method::lora_ga; }
  bool has_anchor() const { return from_gradients() || method == start_method::pissa; }
  bool anchored() const { return relative_to == peft_base::anchored; }
  bool stable_ranks() const { return rank_stable.value_or(from_gradients()); }
};

/// errors  value_error for options that do not fit together
inline void check_options(init_options const& o) {
  auto const require = [](bool fits, char const* what) {
    if (!fits) throw value_error(what);
  };
  require(o.rank >= 1 && o.rank <= 1 << 20, "--rank must be 1 to 1048576");
  require(o.from_gradients() == !o.gradients.empty(), "--gradients belongs to --method lora-ga, and to no other");
  require(o.from_gradients() || !o.skip_zero_gradients, "--skip-zero-gradients belongs to --method lora-ga");
  require(!o.targets.names.empty() || !o.targets.expression.empty(), "--family or --target-modules is missing");
  require(!o.has_anchor() || o.relative_to,
          "--relative-to is missing: say original or anchored, because this method does not start at zero");
  require(o.has_anchor() || !o.anchored(), "--relative-to anchored: this method starts at zero and changes no base");
  require(o.anchored() == !o.anchored_base.empty(),
          "--anchored-base belongs to --relative-to anchored, and must be there");
}

/// The command line's options, checked. Ends the program after --help, and with 2 if they are wrong.
init_options parse_init_options(int argc, char** argv);

}  // namespace adapters
