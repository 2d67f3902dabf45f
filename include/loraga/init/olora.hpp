#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/linalg/orthonormal.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// OLoRA: the first r columns of W = Q*R, an orthonormal basis, and what W is in it; use with an anchor.
/// math    B = Q[:, :r], an orthonormal basis of W's first r columns; A = QT*W = R[:r, :]
/// R's diagonal is positive, where LAPACK's and PEFT's may be negative: a sign of a column of B and a row of A
/// together, which B*A and the anchor do not see. Where W's first r columns are dependent, B is completed to an
/// orthonormal set and A need not be triangular. s is not divided out, as in PEFT.
/// errors  shape_error if r > min(out, in); numeric_error from `initialise` if W is not finite
/// cost    an orthonormalisation of out x r, with a look at its outcome, and a product of 2*r*out*in operations
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
