#pragma once
#include <loraga/init/split_triplets.hpp>

namespace loraga {

/// PiSSA: the adapter takes over W's principal part; use with an anchor.
/// math    W ~ U S VT; A = sqrt(S/s)*VT, B = U*sqrt(S/s), r triplets, so that s*B*A is W's best rank-r approximation
/// errors  shape_error if r > min(out, in); value_error if s <= 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2404.02948
struct pissa_init {
  using needs = needs_weight;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t r) const { return r; }
  void check(index_t out, index_t in, index_t r, double s, bool) const {
    require_rank(r, out, in, "pissa_init");
    require_value(s > 0, s, "pissa_init", "scaling s", "above 0");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    split_triplets(be, context.weight, context.scale, a, b);
  }
};

}  // namespace loraga
