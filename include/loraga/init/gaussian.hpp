#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// PEFT's init_lora_weights="gaussian".
/// math    A ~ N(0, (1/r)^2), B = 0
/// cost    r*(out + in) elements, asynchronous
/// Give layers initialised one by one different seeds; within a batch they get different streams.
struct gaussian_init {
  std::uint64_t seed = 0;

  using needs = needs_nothing;
  static constexpr bool starts_at_zero = true;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t, index_t, index_t, double, bool) const {}

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    fill_normal(be, a, {seed, static_cast<std::uint64_t>(context.layer)}, 1 / static_cast<double>(a.rows));
    loraga::fill(be, b, 0);
  }
};

}  // namespace loraga
