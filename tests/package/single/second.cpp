// Both headers in one file; the second one holds the first.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <loraga/cpu.hpp>
#include <loraga/io/peft.hpp>

void save_and_load(loraga::cpu& be, loraga::lora<float, loraga::cpu>& adapter) {
  auto const saved = loraga::take_record(be, adapter, "model.layers.0.q_proj");
  loraga::save_peft("adapter", {saved}, {.base = loraga::peft_base::original, .may_replace = loraga::overwrite::yes},
                    loraga::unchecked_names{});
  auto const loaded = loraga::load_peft("adapter").records.at(0);
  for (float v : loaded.a.values) std::printf("%08x\n", std::bit_cast<std::uint32_t>(v));
  for (float v : loaded.b.values) std::printf("%08x\n", std::bit_cast<std::uint32_t>(v));
}
