#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// LoRA's own start for embeddings: there B must not be 0, because rows of A are only picked.
/// math    A = 0, B ~ N(0, 1)
/// cost    r*(out + in) elements, asynchronous
/// source  huggingface/peft and microsoft/LoRA
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct embedding_init {
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::at_zero;

  template <Backend B, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, V a, V b) const {
    fill(be, a, 0);
    fill_normal(be, b, {seed, at.number}, 1);
  }
};

}  // namespace loraga
