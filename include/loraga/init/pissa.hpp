#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// PiSSA: the adapter takes over W's principal part. Use it with an anchor.
/// math    W ~ U S VT; A = sqrt(S/s)*VT, B = U*sqrt(S/s), r triplets, so that s*B*A is W's best rank-r approximation
/// errors  shape_error if r > min(out, in); value_error if s <= 0
/// cost    r triplets of W, then r*(out + in) elements, asynchronous
/// source  arXiv:2404.02948
struct pissa_init {
  static constexpr start_kind starts = start_kind::offset;
  weight_triplets needs(layer_facts const& of) const { return {of.rank}; }
  void check(layer_facts const& of) const {
    require_rank(of, "pissa_init");
    require_value(of.scale > 0, of.scale, "pissa_init", "scaling s", "above 0");
  }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, F const& weight, V a, V b) const {
    split_triplets(be, weight, at.scale, a, b);
  }
};

}  // namespace loraga
