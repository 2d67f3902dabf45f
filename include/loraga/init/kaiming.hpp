#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// LoRA's own start: PyTorch's kaiming_uniform with a = sqrt(5).
/// math    A ~ U(-1/sqrt(in), 1/sqrt(in)), B = 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2106.09685
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct kaiming_init {
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::at_zero;

  template <Backend B, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, V a, V b) const {
    double const bound = 1 / std::sqrt(static_cast<double>(a.cols));
    fill_uniform(be, a, {seed, at.number}, -bound, bound);
    fill(be, b, 0);
  }
};

}  // namespace loraga
