#pragma once
#include <loraga/concepts.hpp>

// How "the model starts unchanged" is kept when B0*A0 is not 0.

namespace loraga {

/// W -= s*B0*A0, with A0, B0 rounded to their storage type first, so that the adapter cancels the offset. Passes cost
/// nothing more. W must be mutable. In 16 bit about 0.25 % of rms(W) remains. A and B alone are wrong on the original
/// W, so the adapter keeps A0 and B0 for saving. Weight decay pulls towards the changed W.
struct in_place_anchor {
  static constexpr bool changes_weight = true;
  template <Backend B, class A, MutableViewIn<typename B::space> W, class F>
  void apply(B& be, A& adapter, W w, F a, F b) const {
    adapter.subtract_start(be, w, a, b);
  }
};

/// W untouched: the adapter keeps A0, B0 and computes s*(B*A - B0*A0)*x. Exact in every type, for quantised, shared
/// and memory-mapped bases. Takes a const W or none. Costs two more thin products per pass.
struct frozen_pair_anchor {
  static constexpr bool changes_weight = false;
  template <Backend B, class A, class W, class F>
  void apply(B& be, A& adapter, W, F a, F b) const {
    adapter.freeze_start(be, a, b);
  }
};

/// Nothing is subtracted, for starts that are meant to begin changed by s*B0*A0 (start_kind::ahead): LoRA-One, GoRA,
/// LoRA-SB. Others refuse it.
struct no_anchor {
  static constexpr bool changes_weight = false;
  template <Backend B, class A, class W, class F>
  void apply(B&, A&, W, F, F) const {}
};

/// no_anchor for any start: the model begins changed by s*B0*A0 though the method does not mean it. For ablations.
struct unanchored : no_anchor {};

}  // namespace loraga
