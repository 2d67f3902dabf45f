#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// MiLoRA: the adapter takes over W's minor part, and the principal part stays frozen. Use it with an anchor.
/// math    W = U S VT; A = sqrt(S/s)*VT, B = U*sqrt(S/s) of the r smallest triplets, in descending order
/// errors  shape_error if r > min(out, in); value_error if s <= 0; numeric_error from `initialise` if those r singular
///         values are all 0, because A = B = 0 never learns
/// loss    every one of them that is 0 leaves a rank that never learns; gram takes values below
///         1.5e-8*sigma_1*sqrt(m) for 0 (for float 1.2e-7)
/// cost    all min(out, in) triplets of W, best by an exact method (gram, eigen_svd); then r*(out + in) elements
/// source  arXiv:2406.09044
struct milora_init {
  static constexpr start_kind starts = start_kind::offset;
  weight_triplets needs(layer_facts const&) const { return {all_triplets}; }
  void check(layer_facts const& of) const {
    require_rank(of, "milora_init");
    require_value(of.scale > 0, of.scale, "milora_init", "scaling s", "above 0");
  }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, F const& weight, V a, V b) const {
    split_triplets(be, some_triplets(weight, weight.s.rows - at.rank, at.rank), at.scale, a, b);
  }
};

}  // namespace loraga
