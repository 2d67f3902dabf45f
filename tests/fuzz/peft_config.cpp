#include <loraga/io/peft_config.hpp>

// Any text: a configuration, or a format_error. An accepted one can be asked about any module, and writes a text that
// reads the same.
extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::string_view const text(reinterpret_cast<char const*>(data), size);
  try {
    auto const config = loraga::parse_peft_config(text, "fuzz");
    loraga::peft_scales const scales(config, "fuzz");
    for (auto const* module : {"", "q_proj", "model.layers.11.self_attn.q_proj", "a..b.1.c"}) {
      if (scales.rank(module) < (config.adalora ? 0 : 1)) __builtin_trap();
      (void)scales.scale(module);
      (void)config.targets.selects(module);
    }
    auto const again = loraga::parse_peft_config(loraga::peft_config_text(config), "again");
    if (again.r != config.r || again.rank_pattern.size() != config.rank_pattern.size()) __builtin_trap();
    if (again.dora != config.dora || again.kept_ranks != config.kept_ranks) __builtin_trap();
  } catch (loraga::format_error const&) {
  }
  return 0;
}
