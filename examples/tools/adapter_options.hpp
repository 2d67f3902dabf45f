#pragma once
#include "adapter_jobs.hpp"
#include "command_line.hpp"
#include "manual.hpp"

namespace tools {

/// loraga_adapter's page, but for commands and options.
inline manual adapter_manual() {
  return {"loraga_adapter",
          "looks at, merges, combines and converts low-rank adapters",
          "loraga_adapter COMMAND --adapter FOLDER... [option]...\nloraga_adapter COMMAND --help",
          R"(Works on adapters in Hugging Face PEFT's form: LoRA, rsLoRA, DoRA and AdaLoRA, on
linear layers, convolutions and embeddings, and what PEFT saves whole beside them.
Says what it does beyond the sum: which leading words of names it matched, what it
replaced, added, untied or left out.)",
          {{"EXAMPLES",
            R"(loraga_adapter show --adapter trained
loraga_adapter convert --adapter trained --start adapter/start --base-name model \
               --out final
loraga_adapter merge --adapter final --base model --out merged
loraga_adapter combine --adapter one:0.5 two:0.5 --out both
loraga_adapter gguf --adapter final --architecture llama --heads 32 --kv-heads 8 \
               --out final.gguf)"},
           {"FILES",
            R"(Adapters are folders with adapter_config.json and adapter_model.safetensors. A model
is a folder as transformers has it, an index.json or a single safetensors file.)"},
           {"EXIT STATUS", exit_status}}};
}

struct adapter_command_line {
  CLI::App app;
  adapter_options o;
  bool replace = false;
  std::vector<std::pair<CLI::App*, void (*)(adapter_options const&)>> commands;

  CLI::App* add(std::string const& name, std::string const& what, void (*job)(adapter_options const&), int most) {
    auto* const c = app.add_subcommand(name, what);
    c->add_option("--adapter", o.sources, most == 1 ? "its folder" : "their folders; FOLDER:WEIGHT counts it by WEIGHT")
        ->required()
        ->expected(1, most)
        ->type_name(most == 1 ? "FOLDER" : "FOLDER...");
    if (name != "show") add_renames(*c, o.renames, "of the adapters' names");
    commands.emplace_back(c, job);
    return c;
  }
  void add_out(CLI::App* c, std::string const& what) {
    c->add_option("--out", o.out, what)->required()->type_name("PATH");
    c->add_flag("--overwrite", replace, "replace files that are there");
  }
  /// For adapters whose init_lora_weights says that the start changed the base, or is unknown. What is written for
  /// others to read cannot say "anchored" again.
  void add_relative_to(CLI::App* c, bool anchored) {
    std::vector<std::pair<std::string, std::optional<peft_base>>> choices{{"original", peft_base::original}};
    if (anchored) choices.push_back({"anchored", peft_base::anchored});
    add_choice(*c, "--relative-to", o.relative_to, choices,
               anchored ? "the base the adapter is for, where its start changed that (PiSSA, LoRA-GA ... saved "
                          "unconverted): anchored if it is the changed one that you use it on"
                        : "original: its start did not change the base (where init_lora_weights is unknown)");
  }
  void add_merge(std::string const& name, std::string const& what, void (*job)(adapter_options const&)) {
    auto* const c = add(name, what, job, 1000);
    c->add_option("--base", o.base, "the model: a safetensors file, an index.json, or their folder")
        ->required()
        ->type_name("PATH");
    add_relative_to(c, true);
    add_choice<std::optional<tied_weights>>(
        *c, "--tied", o.tied, {{"untie", tied_weights::untie}, {"share", tied_weights::share}},
        "a head that is the embedding's weight, and one of them changes: untie gives each its own tensor (merge's way "
        "if nothing is said), share changes the one");
    c->add_flag_function(
        "--fan-in-fan-out,!--no-fan-in-fan-out", [&](std::int64_t count) { o.fan_in_fan_out = count > 0; },
        "linear weights are in x out in the base, or not (default: config.json and shapes tell)");
    add_out(c, "the new model: a folder, or a file where --base is one");
  }
  void add_profile(CLI::App* c) {
    add_choice(*c, "--profile", o.profile, {{"faithful", peft_profile::faithful}, {"portable", peft_profile::portable}},
               "portable: one rank, s folded into B, for vLLM and others that read lora_alpha and r only");
  }

  adapter_command_line() {
    set_manual(app, adapter_manual());
    app.require_subcommand(1);
    add("show", "modules, ranks, scales and norms", show, 1000);
    add_merge("merge", "adds adapters to a model: W + s*B*A", [](adapter_options const& t) { merge(t, 1); });
    add_merge("unmerge", "takes merged adapters out again (in 16 bit up to rounding)",
              [](adapter_options const& t) { merge(t, -1); });
    auto* c = add("combine", "one adapter that does what the weighted sum does (ranks add up)", combine, 1000);
    add_profile(c);
    add_relative_to(c, false);
    add_out(c, "folder of the new adapter");
    c = add("convert", "another profile, or from the anchored base to the original one", convert, 1);
    c->add_option("--start", o.start, "the adapter's start (OUT/start of loraga_init): rank 2r for the original base")
        ->type_name("FOLDER");
    c->add_option("--base-name", o.base_name, "for adapter_config.json (with --start: the original base)");
    add_profile(c);
    add_relative_to(c, false);
    add_out(c, "folder of the new adapter");
    c = add("gguf", "an adapter for llama.cpp", to_gguf, 1);
    c->add_option("--base", o.base, "the GGUF file it is for: tells architecture and heads, and whether the layers fit")
        ->type_name("FILE");
    c->add_option("--architecture", o.gguf.architecture, "as the base's general.architecture")
        ->check(CLI::IsMember({"llama", "qwen2", "qwen3", "gpt2", "bert", "t5"}));
    c->add_option("--heads", o.gguf.heads, "attention heads (llama)");
    c->add_option("--kv-heads", o.gguf.kv_heads, "heads of keys and values (llama)");
    add_relative_to(c, true);
    add_out(c, "the GGUF file");
  }

  /// Does what was parsed.
  void run() {
    o.may_replace = replace ? overwrite::yes : overwrite::no;
    for (auto const& [command, job] : commands)
      if (command->parsed()) job(o);
  }
};

}  // namespace tools
