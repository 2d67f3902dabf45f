#pragma once
#include <loraga/linalg/random.hpp>

namespace loraga {

/// LoRA's own start.
/// math    A ~ U(-1/sqrt(in), 1/sqrt(in)) (PyTorch's kaiming_uniform with a = sqrt(5)), B = 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2106.09685
/// Give layers initialised one by one different seeds; within a batch they get different streams.
struct kaiming_init {
  std::uint64_t seed = 0;

  using needs = needs_nothing;
  static constexpr bool starts_at_zero = true;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t, index_t, index_t, double, bool) const {}

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    double const bound = 1 / std::sqrt(static_cast<double>(a.cols));
    fill_uniform(be, a, {seed, static_cast<std::uint64_t>(context.layer)}, -bound, bound);
    loraga::fill(be, b, 0);
  }
};

}  // namespace loraga
