#pragma once
#include <loraga/io/peft_writer.hpp>

// Adapters as Hugging Face PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors.

namespace loraga {

struct peft_adapter {
  peft_config config;
  std::vector<adapter_record> records;  ///< sorted by module
};

/// Reads a LoRA, DoRA or AdaLoRA adapter that PEFT, or save_peft, wrote: of linear layers, embeddings and 2-D
/// convolutions. A layer that AdaLoRA has pruned to rank 0 does nothing and is left out. An adapter whose configuration
/// makes PEFT change the base (PiSSA, OLoRA, LoRA-GA saved unconverted) is relative to that changed base: it is read
/// only where the caller says so with peft_base::anchored.
/// errors  file_error; format_error for what is not supported, does not fit together, or is not finite; state_error as
///         said above
inline peft_adapter load_peft(std::filesystem::path const& folder, std::optional<peft_base> base = {}) {
  auto const config_path = folder / "adapter_config.json", weights_path = folder / "adapter_model.safetensors";
  std::error_code unknown;
  if (!std::filesystem::exists(weights_path, unknown) && std::filesystem::exists(folder / "adapter_model.bin", unknown))
    raise<format_error>(
        folder.string(), "adapter", "in adapter_model.bin, a pickle",
        "adapter_model.safetensors (PEFT converts: load it, and save_pretrained(safe_serialization=True))");
  peft_adapter adapter{parse_peft_config(read_text(config_path), config_path.string()), {}};
  auto const& c = adapter.config;
  if (c.changes_base() && base != peft_base::anchored)
    raise<state_error>(
        "load_peft(" + folder.string() + ")", "base", base ? "peft_base::original" : "not named",
        "peft_base::anchored, because init_lora_weights is '" + c.init + "': A and B are relative to a changed base");
  safetensors_file const file(weights_path);
  peft_scales const scales(c, config_path.string());
  for (auto const& [module, tensors] : format::peft_modules(file)) {
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
