#include "command_line.hpp"
#include "init_checks.hpp"
#include "init_choices.hpp"
#include "init_manual.hpp"

namespace tools {

namespace {

bool is_expression(std::string const& s) { return s.find_first_of("^$\\*+?()[]{}|") != s.npos; }

void set_names(std::vector<std::string> const& words, std::vector<std::string>& names, std::string& expression,
               char const* option) {
  for (auto const& w : words)
    if (words.size() > 1 && is_expression(w))
      throw value_error(std::string(option) + ": '" + w + "' is a regular expression; give it alone");
  if (words.size() == 1 && is_expression(words[0])) expression = words[0];
  else if (!words.empty()) names = words;
}

/// What options fill that is no option itself.
struct init_command_line {
  init_options o;
  bool replace = false;
  std::string family;
  std::vector<std::string> targets, excluded;
  CLI::App app;

  void group(char const* name, std::vector<CLI::Option*> const& options) {
    for (auto* option : options) option->group(name);
  }

  void add_files() {
    auto* const base =
        app.add_option("--base", o.base, "the model: a safetensors file, an index.json, or their folder");
    auto* const gradients = app.add_option("--gradients", o.gradients, "gradients, see FILES");
    auto* const inputs = app.add_option("--inputs", o.inputs, "inputs X, see FILES");
    auto* const out = app.add_option("--out", o.out, "folder for the adapter");
    auto* const anchored = app.add_option("--anchored-base", o.anchored_base,
                                          "where the changed base goes: a folder, or a file where --base is one");
    auto* const again = app.add_flag("--overwrite", replace, "replace files that are there");
    group("Files", {base, gradients, inputs, out, anchored, again});
    for (auto* option : {base, gradients, inputs, out, anchored}) option->type_name("PATH");
    for (auto* option : {base, out}) option->required();
  }

  void add_start() {
    auto* const method = add_choice(app, "--method", o.method, names_of_methods(), "how A and B start, see METHODS");
    auto* const relative = add_choice<std::optional<peft_base>>(
        app, "--relative-to", o.relative_to, {{"original", peft_base::original}, {"anchored", peft_base::anchored}},
        "which base the adapter is for, see RELATIVE TO");
    auto* const alpha = app.add_option("--alpha", o.alpha, "alpha")->capture_default_str()->check(positive_number());
    auto* const stable = app.add_flag_function(
        "--rslora,!--no-rslora", [&](std::int64_t count) { o.rank_stable = count > 0; },
        "s = alpha/sqrt(r), or alpha/r (default: the former for lora-ga, lora-one, gora and gaussian-pair --scale "
        "stable)");
    auto* const seed = app.add_option("--seed", o.seed, "of random numbers")->capture_default_str();
    auto* const type = add_choice(app, "--dtype", o.type, {{"F32", dtype::F32}, {"BF16", dtype::BF16}}, "of A and B");
    auto* const svd =
        add_choice(app, "--svd", o.quality, names_of_qualities(), "how exact, where leading triplets are asked for");
    group("Start", {method, relative, alpha, stable, svd, type, seed});
  }

  void add_ranks() {
    auto* const rank =
        app.add_option("--rank,--mean-rank", o.rank, "r of every layer, or the mean one of measured ranks")
            ->capture_default_str();
    auto* const rule = add_choice<std::optional<rank_rule>>(app, "--ranks", o.ranks,
                                                            {{"same", rank_rule::same},
                                                             {"spectra", rank_rule::spectra},
                                                             {"importance", rank_rule::importance},
                                                             {"explained", rank_rule::explained}},
                                                            "see RANKS (default: same, or the method's own)");
    auto* const parameters =
        app.add_option("--parameters", o.parameters, "spectra: of all adapters together, instead of a mean rank");
    auto* const gain = add_choice<std::optional<bool>>(
        app, "--gain", o.by_coverage, {{"coverage", true}, {"energy", false}},
        "spectra: what a rank gains: a share of its layer's energy, or energy (default: coverage)");
    auto* const least = app.add_option("--least-rank", o.least_rank,
                                       "spectra, importance: of every layer (default: 1, or half the mean)");
    auto* const most =
        app.add_option("--most-rank", o.most_rank, "spectra, importance: the same (default: four times the mean)");
    auto* const rho = app.add_option("--rho", o.rho, "explained: the highest rank, by the mean one (default: 2)");
    group("Ranks", {rank, rule, parameters, gain, least, most, rho});
    rank->type_name("R");
    for (auto* option : {parameters, least, most}) option->type_name("NUMBER");
  }

  void add_of_methods() {
    auto* const directions = add_choice<std::optional<ga_directions>>(
        app, "--directions", o.directions, names_of_directions<std::optional<ga_directions>>(),
        "lora-ga: which vectors go where (default: ArB2r)");
    auto* const scale = add_choice<std::optional<ga_scale>>(
        app, "--scale", o.scale, names_of_scales<std::optional<ga_scale>>(),
        "lora-ga: how large A and B are (default: stable); gaussian-pair: stable, or unit (default)");
    auto* const gamma = app.add_option("--gamma", o.gamma,
                                       "of the stable scale: lora-ga and gaussian-pair (default: 16), lora-one "
                                       "(default: 128)")
                            ->check(positive_number());
    auto* const clip = app.add_flag("--clip", o.clip, "lora-ga: shrink the start until max|s*B*A| <= max|W|");
    auto* const part =
        add_choice<std::optional<corda_part>>(app, "--part", o.part, names_of_parts<std::optional<corda_part>>(),
                                              "corda: what the inputs use most, or least (default: ipm)");
    auto* const step = app.add_option("--step", o.step,
                                      "gora: rate of the step of gradient descent (default: 0.05); lora-sb: of "
                                      "AdamW's (default: 0.0001)")
                           ->check(positive_number());
    group("Of single methods", {directions, scale, gamma, clip, part, step});
  }

  void add_modules() {
    auto* const preset = app.add_option("--family", family, "all linear layers of such a model")
                             ->check(CLI::IsMember({"llama", "qwen", "gpt2", "bert", "t5"}));
    auto* const named = app.add_option("--target-modules", targets, "names or their ends, or one regular expression");
    auto* const without = app.add_option("--exclude", excluded, "the same for modules to leave out");
    auto* const layout = app.add_flag_function(
        "--fan-in-fan-out,!--no-fan-in-fan-out", [&](std::int64_t count) { o.fan_in_fan_out = count > 0; },
        "linear weights are in x out, or not (default: the base's config.json knows)");
    auto* const embeddings =
        app.add_option("--embeddings", o.embeddings, "modules that are embeddings (embed_tokens, wte ... are known)");
    auto* const skip = app.add_flag("--skip-unreached,--skip-zero-gradients", o.skip_unreached,
                                    "leave out modules that no token reached (experts), and list them");
    auto* const renames = add_renames(app, o.renames, "of the base, where module names have others");
    auto* const prefix = app.add_option("--module-prefix", o.module_prefix,
                                        "what module names have before the names in the base's files");
    group("Modules", {preset, named, without, skip, layout, embeddings, renames, prefix});
    for (auto* option : {named, without, embeddings}) option->type_name("NAME...");
  }

  void add_rest() {
    auto* const task = app.add_option("--task-type", o.task_type,
                                      "for adapter_config.json: CAUSAL_LM, SEQ_2_SEQ_LM or FEATURE_EXTRACTION");
    auto* const name = app.add_option("--base-name", o.base_name,
                                      "for adapter_config.json (default: the path of the base it is relative to)");
    auto* const threads = app.add_option("--threads", o.threads, "default: one per core; results do not depend on it")
                              ->check(CLI::PositiveNumber);
    group("Configuration", {task, name, threads});
    task->type_name("NAME");
    name->type_name("NAME");
    threads->type_name("NUMBER");
  }

  init_command_line() {
    set_manual(app, init_manual());
    add_files();
    add_start();
    add_ranks();
    add_of_methods();
    add_modules();
    add_rest();
  }

  /// errors  value_error for options that do not fit together
  init_options checked() {
    o.may_replace = replace ? overwrite::yes : overwrite::no;
    if (!family.empty()) {
      auto const& known = preset_of(family);
      o.targets.names = known.names;
      o.family_prefix = known.module_prefix;
      o.conv1d_family = known.fan_in_fan_out;
    }
    set_names(targets, o.targets.names, o.targets.expression, "--target-modules");
    set_names(excluded, o.targets.excluded, o.targets.excluded_expression, "--exclude");
    check_options(o);
    return std::move(o);
  }
};

}  // namespace

init_options parse_init_options(int argc, char const* const* argv) {
  init_command_line line;
  parse_or_exit(line.app, argc, argv);
  try {
    return line.checked();
  } catch (value_error const& e) {
    std::cerr << "loraga_init: " << e.what() << "\nRun with --help for more information.\n";
    std::exit(2);
  }
}

}  // namespace tools
