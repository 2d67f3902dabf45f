#pragma once
#include <cmath>
#include <loraga/linalg/random.hpp>

namespace loraga {

/// LoRA-GA's ablations without a gradient: both factors are random. Use it with an anchor. The ablation "+GA" is
/// lora_ga_init{.scale = ga_scale::unit}.
/// math    A ~ N(0, 1/in), B ~ N(0, 1/out); with `stable` both times m^(1/4)/sqrt(gamma), m = out
/// errors  value_error if gamma <= 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2407.05000, ablation study
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct gaussian_pair_init {
  bool stable = false;  ///< "+SO": LoRA-GA's stable scale, to be used with rank_stable_scaling
  double gamma = 16;    ///< used by `stable` only
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::offset;
  void check(layer_facts const&) const {
    require_value(gamma > 0 && is_finite(gamma), gamma, "gaussian_pair_init", "gamma", "a positive finite number");
  }

  template <Backend B, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, V a, V b) const {
    random_stream const stream{seed, at.number};
    auto const in = static_cast<double>(a.cols), out = static_cast<double>(b.rows);
    double const c = stable ? std::pow(out, 0.25) / std::sqrt(gamma) : 1.0;
    fill_normal(be, a, derive(stream, 1), c / std::sqrt(in));
    fill_normal(be, b, derive(stream, 2), c / std::sqrt(out));
  }
};

}  // namespace loraga
