#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/linalg/orthonormal.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// OLoRA: B is an orthonormal basis of W's first r columns, and A is W in that basis. Use it with an anchor.
/// R's diagonal is positive here; PEFT's may be negative, which flips a column of B and a row of A together and leaves
/// B*A as it is. Where W's first r columns are dependent, B is completed to an orthonormal set. As in PEFT, s is not
/// divided out.
/// math    W = Q*R; B = Q[:, :r], A = QT*W = R[:r, :]
/// errors  shape_error if r > min(out, in); numeric_error from `initialise` if W is not finite
/// cost    an orthonormalisation of out x r, which waits once for its outcome, and a product of 2*r*out*in operations
/// source  arXiv:2406.01775
struct olora_init {
  static constexpr start_kind starts = start_kind::offset;
  whole_weight needs(layer_facts const&) const { return {}; }
  void check(layer_facts const& of) const { require_rank(of, "olora_init"); }

  template <Backend B, class W, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, W w, V a, V b) const {
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    auto const q = temporary.template matrix<compute_t<typename V::value_type>>(b.rows, b.cols);
    convert(be, w.columns(0, b.cols), q);
    orthonormalize(be, q, {0, at.number});
    convert(be, q, b);
    be.gemm(1.0, q.transposed(), w, 0.0, a);
  }
};

}  // namespace loraga
