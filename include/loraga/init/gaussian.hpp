#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// PEFT's init_lora_weights="gaussian".
/// math    A ~ N(0, (1/r)^2), B = 0
/// cost    r*(out + in) elements, asynchronous
/// source  huggingface/peft
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct gaussian_init {
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::at_zero;

  template <Backend B, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, V a, V b) const {
    fill_normal(be, a, {seed, at.number}, 1 / static_cast<double>(a.rows));
    fill(be, b, 0);
  }
};

}  // namespace loraga
