#pragma once
#include <loraga/init/split_triplets.hpp>

namespace loraga {

/// MiLoRA: the adapter takes over W's minor part and leaves the principal one frozen; use with an anchor.
/// math    W = U S VT; A = sqrt(S/s)*VT, B = U*sqrt(S/s) of the r smallest triplets, in descending order
/// errors  shape_error if r > min(out, in); value_error if s <= 0; numeric_error from `initialise` if those r singular
///         values are all 0 (W of lower rank), because A = B = 0 never learns; single zeros leave that many dead ranks
/// cost    r*(out + in) elements, asynchronous; all min(out, in) triplets of W are asked for, which an exact method
///         (`gram`, `eigen_svd`) gives; `gram` takes values below 1.5e-8*sigma_1*sqrt(m) (1.2e-7 for float) for 0
/// source  arXiv:2406.09044
struct milora_init {
  using needs = needs_weight;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return all_triplets; }
  void check(index_t out, index_t in, index_t r, double s, bool) const {
    require_rank(r, out, in, "milora_init");
    require_value(s > 0, s, "milora_init", "scaling s", "above 0");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    index_t const r = a.rows;
    split_triplets(be, some_triplets(context.weight, context.weight.s.rows - r, r), context.scale, a, b);
  }
};

}  // namespace loraga
