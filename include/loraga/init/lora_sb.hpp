#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// LoRA-SB's start: the model begins at the best rank-r approximation of full fine-tuning's first AdamW step. Use it
/// with sign_gradient accumulators, a lora_sb adapter, and no_anchor, which is the method: the model starts changed.
/// With dense_gradient accumulators it is a step of SGD, -step*G.
/// math    sign(G) ~ U S VT; s*B*A = -step*U*S*VT, r triplets; lora_sb keeps -U, VT and R = step*S/s
/// units   step is the learning rate of that full fine-tuning step; the adapter's own is larger by far; the authors'
///         code takes the first rate of a warm-up, rate/(warm-up steps)
/// errors  shape_error if r > min(out, in); value_error if step <= 0 or s <= 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2411.19557
struct lora_sb_init {
  double step = 1e-4;  ///< of full fine-tuning

  static constexpr start_kind starts = start_kind::ahead;
  gradient_triplets needs(layer_facts const& of) const { return {of.rank}; }
  void check(layer_facts const& of) const {
    require_rank(of, "lora_sb_init");
    require_value(step > 0 && is_finite(step), step, "lora_sb_init", "step", "a positive finite number");
    require_value(of.scale > 0, of.scale, "lora_sb_init", "scaling s", "above 0, because the start divides by it");
  }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, F const& gradient, V a, V b) const {
    scratch<B> temporary(be);
    auto const divisor = temporary.template matrix<double>(1, 1);
    fill(be, divisor, at.scale / step);
    split_triplets(be, gradient, divisor, -1, a, b);
  }
};

}  // namespace loraga
