#pragma once
#include <loraga/concepts.hpp>

namespace loraga {

/// How "the model starts unchanged" is kept when B0*A0 is not 0 (or is not, with no_anchor). `changes_weight` says that
/// W must be given, and be no other layer's. apply(backend, adapter, W, A0, B0) comes before the adapter takes A0, B0,
/// and may fail as long as it has changed nothing.
template <class X>
concept Anchor = requires {
  { X::changes_weight } -> std::convertible_to<bool>;
};

/// W -= s*B0*A0, with A0, B0 rounded to their storage type first, so that the adapter cancels the offset. Costs
/// passes nothing; needs a mutable W; in 16 bit about 0.25 % of rms(W) remains; A and B alone are wrong on the original
/// W, so the adapter keeps A0 and B0 for saving; weight decay pulls towards the changed W.
struct in_place_anchor {
  static constexpr bool changes_weight = true;
  template <Backend B, Adapter<B> A, MutableViewIn<typename B::space> W, class F>
  void apply(B& be, A& adapter, W w, F a, F b) const {
    adapter.subtract_start(be, w, a, b);
  }
};

/// W untouched; the adapter keeps A0, B0 and computes s*(B*A - B0*A0)*x. Exact in every type, for quantised, shared
/// and memory-mapped bases; takes a const W or none; costs two more thin products per pass.
struct frozen_pair_anchor {
  static constexpr bool changes_weight = false;
  template <Backend B, Adapter<B> A, class W, class F>
  void apply(B& be, A& adapter, W, F a, F b) const {
    adapter.freeze_start(be, a, b);
  }
};

/// Nothing is subtracted: the model starts changed by s*B0*A0. What LoRA-One is made for, and an ablation of the rest.
struct no_anchor {
  static constexpr bool changes_weight = false;
  template <Backend B, Adapter<B> A, class W, class F>
  void apply(B&, A&, W, F, F) const {}
};

}  // namespace loraga
