#pragma once
#include <loraga/init/split_triplets.hpp>

namespace loraga {

/// LoRA-One: the model starts one scaled gradient step ahead. Use with no_anchor (which is the method: it does not
/// start unchanged) and rank_stable_scaling.
/// math    -G ~ U S VT; B = U*sqrt(S/S_1)/sqrt(gamma), A = sqrt(S/S_1)*VT/sqrt(gamma), r triplets, so that s*B*A is
///         -s/(gamma*sigma_1) times G's best rank-r approximation
/// units   only shape and direction of G enter, not its size; gamma without unit, 128 in the paper
/// errors  shape_error if r > min(out, in); value_error if gamma <= 0; a gradient of rank below r leaves dead ranks
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2502.01235
struct lora_one_init {
  double gamma = 128;

  using needs = needs_gradient;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t r) const { return r; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t out, index_t in, index_t r, double, bool) const {
    require_rank(r, out, in, "lora_one_init");
    require_value(gamma > 0 && is_finite(gamma), gamma, "lora_one_init", "gamma", "a positive finite number");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    scratch<B> temporary(be);
    auto const divisor = temporary.template matrix<double>(1, 1);
    axpby(be, gamma, context.gradient.s.row_range(0, 1), 0.0, divisor);
    split_triplets(be, context.gradient, divisor, -1, a, b);
  }
};

}  // namespace loraga
