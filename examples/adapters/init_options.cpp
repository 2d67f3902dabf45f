#include "init_options.hpp"

#include "command_line.hpp"

namespace adapters {

namespace {

char const* const about =
    "Starts a low-rank adapter for a model and writes it as Hugging Face PEFT does: LoRA-GA from gradients, PiSSA from "
    "the weights, or LoRA's own starts. Works layer by layer, in memory for one layer.";

char const* const conventions = R"(Gradients, for a module M of the base (any of F64, F32, F16, BF16):
  M.weight              the mean gradient, named and laid out like the base's weight; or
  M.dY, M.X             tokens x out and tokens x in: what came back into the layer and what went into it; or
  M.dY.0, M.X.0, M.dY.1, ...   the same for several micro-batches, which count alike
M may lack .weight, and have what DDP, FSDP, torch.compile and PEFT put into names.

An adapter of lora-ga or pissa does not start at zero; say what it shall be relative to:
  anchored   the usual way: A and B of rank r, for training in PEFT on a changed base W - s*B*A, which --anchored-base
             gets. OUT/start keeps the start: after training, loraga_adapter convert --start OUT/start makes an adapter
             for the original base. A 16-bit base takes the change up to its rounding.
  original   rank 2r, adds nothing to the original base at first. To look at and to serve; training both halves does
             not have LoRA-GA's dynamics.)";

bool is_expression(std::string const& s) { return s.find_first_of("^$\\*+?()[]{}|") != s.npos; }

void set_names(std::vector<std::string> const& words, std::vector<std::string>& names, std::string& expression,
               char const* option) {
  for (auto const& w : words)
    if (words.size() > 1 && is_expression(w))
      throw value_error(std::string(option) + ": '" + w + "' is a regular expression; give it alone");
  if (words.size() == 1 && is_expression(words[0])) expression = words[0];
  else if (!words.empty()) names = words;
}

void add_files(CLI::App& app, init_options& o, bool& replace) {
  auto* const base = app.add_option("--base", o.base, "the model: a safetensors file, an index.json, or their folder");
  auto* const gradients = app.add_option("--gradients", o.gradients, "the same with gradients (lora-ga; see below)");
  auto* const out = app.add_option("--out", o.out, "folder for the adapter and coverage.csv");
  auto* const skip = app.add_flag("--skip-zero-gradients", o.skip_zero_gradients,
                                  "leave out modules that no token reached (experts), and list them");
  auto* const anchored = app.add_option("--anchored-base", o.anchored_base,
                                        "where the changed base goes: a folder, "
                                        "or a file where --base is one");
  auto* const overwrite = app.add_flag("--overwrite", replace, "replace files that are there");
  for (auto* option : {base, gradients, skip, out, anchored, overwrite}) option->group("Files");
  for (auto* option : {base, out}) option->required();
}

void add_method(CLI::App& app, init_options& o) {
  auto* const method = add_choice(app, "--method", o.method,
                                  {{"lora-ga", start_method::lora_ga},
                                   {"pissa", start_method::pissa},
                                   {"lora", start_method::lora},
                                   {"lora-gaussian", start_method::lora_gaussian},
                                   {"orthogonal", start_method::orthogonal}},
                                  "how A and B start");
  auto* const relative = add_choice<std::optional<peft_base>>(
      app, "--relative-to", o.relative_to, {{"original", peft_base::original}, {"anchored", peft_base::anchored}},
      "which base the adapter is for (lora-ga and pissa must say; see below)");
  auto* const rank = app.add_option("--rank", o.rank, "r")->capture_default_str();
  auto* const alpha = app.add_option("--alpha", o.alpha, "alpha")->capture_default_str()->check(positive_number());
  auto* const stable = app.add_flag_function(
      "--rslora,!--no-rslora", [&](std::int64_t count) { o.rank_stable = count > 0; },
      "s = alpha/sqrt(r), or alpha/r (default: sqrt for lora-ga)");
  auto* const seed = app.add_option("--seed", o.seed, "of random numbers")->capture_default_str();
  auto* const type = add_choice(app, "--dtype", o.type, {{"F32", dtype::F32}, {"BF16", dtype::BF16}}, "of A and B");
  for (auto* option : {method, relative, rank, alpha, stable, seed, type}) option->group("Start");
}

void add_lora_ga(CLI::App& app, init_options& o) {
  auto* const gamma = app.add_option("--gamma", o.lora_ga.gamma, "of the stable scale; 16 and 64 in the paper")
                          ->capture_default_str()
                          ->check(positive_number());
  auto* const directions = add_choice(app, "--directions", o.lora_ga.directions,
                                      {{"ArB2r", ga_directions::ArB2r},
                                       {"A2rBr", ga_directions::A2rBr},
                                       {"ArBr", ga_directions::ArBr},
                                       {"random", ga_directions::random}},
                                      "which singular vectors go where");
  auto* const scale = add_choice(app, "--scale", o.lora_ga.scale,
                                 {{"stable", ga_scale::stable},
                                  {"gd", ga_scale::gd},
                                  {"unit", ga_scale::unit},
                                  {"weight_svd", ga_scale::weight_svd},
                                  {"peft_stable", ga_scale::peft_stable},
                                  {"peft_weight_svd", ga_scale::peft_weight_svd}},
                                 "how large A and B are");
  auto* const clip = app.add_flag("--clip", o.lora_ga.clip, "shrink the start until max|s*B*A| <= max|W|");
  auto* const svd =
      add_choice(app, "--svd", o.quality, {{"balanced", svd_quality::balanced}, {"tight", svd_quality::tight}},
                 "how exact (also PiSSA's)");
  for (auto* option : {gamma, directions, scale, clip, svd}) option->group("LoRA-GA");
}

}  // namespace

init_options parse_init_options(int argc, char** argv) {
  init_options o;
  bool replace = false;
  std::string family;
  std::vector<std::string> targets, excluded;
  CLI::App app{about};
  app.footer(conventions);
  add_files(app, o, replace);
  add_method(app, o);
  add_lora_ga(app, o);
  auto* const preset = app.add_option("--family", family, "all linear layers of such a model")
                           ->check(CLI::IsMember({"llama", "qwen", "gpt2", "bert", "t5"}));
  auto* const named = app.add_option("--target-modules", targets, "names or their ends, or one regular expression");
  auto* const without = app.add_option("--exclude", excluded, "the same for modules to leave out");
  auto* const layout = app.add_flag_function(
      "--fan-in-fan-out,!--no-fan-in-fan-out", [&](std::int64_t count) { o.fan_in_fan_out = count > 0; },
      "linear weights are in x out, or not (default: the base's config.json knows)");
  auto* const embeddings =
      app.add_option("--embeddings", o.embeddings, "modules that are embeddings (embed_tokens, wte ... are known)");
  auto* const renames = add_renames(app, o.renames, "of the base, where module names have others");
  auto* const prefix =
      app.add_option("--module-prefix", o.module_prefix, "what module names have before the names in the base's files");
  for (auto* option : {preset, named, without, layout, embeddings, renames, prefix}) option->group("Modules");
  app.add_option("--task-type", o.task_type, "for adapter_config.json: CAUSAL_LM, SEQ_2_SEQ_LM or FEATURE_EXTRACTION")
      ->group("Configuration");
  app.add_option("--base-name", o.base_name,
                 "for adapter_config.json (default: the path of the base it is relative to)")
      ->group("Configuration");
  app.add_option("--threads", o.threads, "default: one per core; results do not depend on it")
      ->check(CLI::PositiveNumber);
  parse_or_exit(app, argc, argv);
  try {
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
  } catch (value_error const& e) {
    std::cerr << "loraga_init: " << e.what() << "\nRun with --help for more information.\n";
    std::exit(2);
  }
  return o;
}

}  // namespace adapters
