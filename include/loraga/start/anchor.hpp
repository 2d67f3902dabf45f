#pragma once
#include <loraga/concepts.hpp>

// How "the model starts unchanged" is kept when B0*A0 is not 0.

namespace loraga {

/// Takes the start out of W, so that the adapter cancels the offset. W must be mutable. A and B alone are wrong on the
/// original W, so the adapter keeps A0 and B0 for saving. Weight decay pulls towards the changed W.
/// math    W -= s*B0*A0, with A0 and B0 rounded to their storage type first
/// cost    one product of 2*r*out*in operations at the start; passes cost nothing more
/// memory  a copy of A0 and B0
/// loss    in 16 bit about 0.25 % of rms(W) remains, by the rounding of W
struct in_place_anchor {
  static constexpr bool changes_weight = true, in_steps = true;
  template <Backend B, class A, MutableViewIn<typename B::space> W, class F>
  void apply(B& be, A& adapter, W w, F a, F b) const {
    adapter.subtract_start(be, w, a, b);
  }
};

/// Leaves W alone: passes subtract the frozen pair A0, B0. It is exact in every type, and right for quantised, shared
/// and memory-mapped bases. It takes a const W or none.
/// math    y = W*x + s*(B*A - B0*A0)*x
/// cost    two more thin products per pass
/// memory  a copy of A0 and B0
struct frozen_pair_anchor {
  static constexpr bool changes_weight = false, in_steps = true;
  template <Backend B, class A, class W, class F>
  void apply(B& be, A& adapter, W, F a, F b) const {
    adapter.freeze_start(be, a, b);
  }
};

/// Subtracts nothing. It is for starts that mean to begin changed by s*B0*A0 (start_kind::ahead): LoRA-One, GoRA and
/// LoRA-SB. Others refuse it.
/// cost    nothing
struct no_anchor {
  static constexpr bool changes_weight = false, in_steps = true;
  template <Backend B, class A, class W, class F>
  void apply(B&, A&, W, F, F) const {}
};

/// no_anchor for any start, for ablations: the model begins changed by s*B0*A0, though the method does not mean it.
/// cost    nothing
struct unanchored : no_anchor {};

}  // namespace loraga
