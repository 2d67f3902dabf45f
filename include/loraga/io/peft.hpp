#pragma once
#include <loraga/io/peft_writer.hpp>

// Adapters as Hugging Face PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors.

namespace loraga {

/// What load_peft read.
struct peft_adapter {
  peft_config config;                            ///< adapter_config.json
  std::vector<adapter_record> records;           ///< sorted by module
  std::vector<whole_parameter> whole;            ///< sorted by name; only where the caller takes them
  std::shared_ptr<safetensors_file const> file;  ///< which `whole` shows
};

/// What is to become of parameters that an adapter's file holds whole (modules_to_save, resized embeddings, biases).
enum class whole_layers {
  refuse,  ///< whoever takes the records alone would lose them
  take     ///< merge_peft copies them, save_peft writes them again
};

/// Whether a whole parameter is the base's own, which PEFT saves beside factors of an embedding, and no trained one.
inline bool is_base_copy(whole_parameter const& w, peft_config const& c) {
  bool const trained_bias = c.bias != "none" && w.name.ends_with(".bias");
  return w.base_copy && !trained_bias;
}

/// Reads a LoRA, DoRA or AdaLoRA adapter that PEFT or save_peft wrote: of linear layers, embeddings and 2-D
/// convolutions. A layer that AdaLoRA has pruned to rank 0 does nothing and is left out. An adapter whose training
/// began with a changed base (PiSSA, OLoRA, LoRA-GA saved unconverted) is relative to that base. It is read only where
/// the caller says so with peft_base::anchored. Where this library does not know what init_lora_weights says, the
/// caller must say which base it is.
/// errors  file_error; format_error for what is not supported, does not fit together, or is not finite; state_error as
///         said above, and for whole layers
inline peft_adapter load_peft(std::filesystem::path const& folder, std::optional<peft_base> base = {},
                              whole_layers how = whole_layers::refuse) {
  auto const config_path = folder / "adapter_config.json", weights_path = folder / "adapter_model.safetensors";
  std::error_code unknown;
  if (!std::filesystem::exists(weights_path, unknown) && std::filesystem::exists(folder / "adapter_model.bin", unknown))
    raise<format_error>(
        folder.string(), "adapter", "in adapter_model.bin, a pickle",
        "adapter_model.safetensors (PEFT converts: load it, and save_pretrained(safe_serialization=True))");
  peft_adapter adapter{parse_peft_config(read_text(config_path), config_path.string()), {}, {}, {}};
  auto const& c = adapter.config;
  auto const where = "load_peft(" + folder.string() + ")";
  if (c.changes_base() && base != peft_base::anchored)
    raise<state_error>(
        where, "base", base ? "peft_base::original" : "not named",
        "peft_base::anchored (--relative-to anchored, and on that base), because init_lora_weights is '" + c.init +
            "': A and B are relative to a base that their start changed");
  if (!c.knows_init() && !base)
    raise<state_error>(where, "base", "not named, and init_lora_weights is '" + c.init + "'",
                       "peft_base::anchored if that start changed the base, peft_base::original if it did not "
                       "(--relative-to)");
  adapter.file = std::make_shared<safetensors_file const>(weights_path);
  auto contents = format::sort_peft_tensors(*adapter.file);
  adapter.whole = std::move(contents.whole);
  if (how == whole_layers::refuse && !adapter.whole.empty())
    raise<state_error>(where, "adapter", "one that holds " + adapter.whole[0].name + " whole, beside its factors",
                       "factors alone; merge_peft (loraga_adapter merge) puts all of it into a model");
  peft_scales const scales(c, config_path.string());
  for (auto const& [module, tensors] : contents.modules) {
    auto r = format::read_peft_module(module, tensors, c.dora, c.adalora, weights_path.string());
    index_t const rank = scales.rank(module);
    if (r.a.rows != rank || r.b.cols != rank)
      raise<format_error>(weights_path.string(), "'" + module + "'",
                          "A " + shape_text(r.a.rows, r.a.cols) + ", B " + shape_text(r.b.rows, r.b.cols),
                          "A and B of rank " + std::to_string(rank) + ", as adapter_config.json has it");
    if (rank == 0) continue;
    r.scale = scales.scale(module);
    try {
      check_record(r, "load_peft");
    } catch (error const& e) {
      throw format_error(weights_path.string() + ": " + e.what());
    }
    adapter.records.push_back(std::move(r));
  }
  if (adapter.records.empty()) raise<format_error>(weights_path.string(), "adapter", "empty", "at least one module");
  return adapter;
}

}  // namespace loraga
