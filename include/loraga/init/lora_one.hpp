#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// LoRA-One: the model starts one scaled gradient step ahead. Use it with rank_stable_scaling and no_anchor, which is
/// the method: the model starts changed.
/// math    -G ~ U S VT; B = U*sqrt(S/S_1)/sqrt(gamma), A = sqrt(S/S_1)*VT/sqrt(gamma), r triplets, so that s*B*A is
///         -s/(gamma*sigma_1) times G's best rank-r approximation
/// units   the size of G does not enter; gamma has no unit and is 128 in the paper
/// errors  shape_error if r > min(out, in); value_error if gamma <= 0; a gradient of rank below r leaves dead ranks
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2502.01235
struct lora_one_init {
  double gamma = 128;  ///< the larger, the smaller the step

  static constexpr start_kind starts = start_kind::ahead;
  gradient_triplets needs(layer_facts const& of) const { return {of.rank}; }
  void check(layer_facts const& of) const {
    require_rank(of, "lora_one_init");
    require_value(gamma > 0 && is_finite(gamma), gamma, "lora_one_init", "gamma", "a positive finite number");
  }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const&, F const& gradient, V a, V b) const {
    scratch<B> temporary(be);
    auto const divisor = temporary.template matrix<double>(1, 1);
    axpby(be, gamma, gradient.s.row_range(0, 1), 0.0, divisor);
    split_triplets(be, gradient, divisor, -1, a, b);
  }
};

}  // namespace loraga
