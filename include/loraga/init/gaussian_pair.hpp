#pragma once
#include <cmath>
#include <loraga/linalg/random.hpp>

namespace loraga {

/// The paper's ablation arms without a gradient: both factors random. Use with an anchor. ("+GA" is
/// lora_ga_init{.scale = ga_scale::unit}.)
/// math    A ~ N(0, 1/in), B ~ N(0, 1/out); with `stable` ("+SO") both times m^(1/4)/sqrt(gamma), m = out, to be used
///         with rank_stable_scaling
/// errors  value_error if gamma <= 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2407.05000, ablation study
/// Give layers initialised one by one different seeds; within a batch they get different streams.
struct gaussian_pair_init {
  bool stable = false;
  double gamma = 16;  ///< used by `stable` only
  std::uint64_t seed = 0;

  using needs = needs_nothing;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t, index_t, index_t, double, bool) const {
    require_value(gamma > 0 && is_finite(gamma), gamma, "gaussian_pair_init", "gamma", "a positive finite number");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    random_stream const stream{seed, static_cast<std::uint64_t>(context.layer)};
    auto const in = static_cast<double>(a.cols), out = static_cast<double>(b.rows);
    double const c = stable ? std::pow(out, 0.25) / std::sqrt(gamma) : 1.0;
    fill_normal(be, a, derive(stream, 1), c / std::sqrt(in));
    fill_normal(be, b, derive(stream, 2), c / std::sqrt(out));
  }
};

}  // namespace loraga
