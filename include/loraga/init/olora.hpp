#pragma once
#include <loraga/init/split_triplets.hpp>
#include <loraga/linalg/orthonormal.hpp>

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
  using needs = needs_plain_weight;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t out, index_t in, index_t r, double, bool) const { require_rank(r, out, in, "olora_init"); }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W w, V a, V b) const {
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    auto const q = temporary.template matrix<compute_t<typename V::value_type>>(b.rows, b.cols);
    convert(be, w.columns(0, b.cols), q);
    orthonormalize(be, q, {0, static_cast<std::uint64_t>(context.layer)});
    convert(be, q, b);
    be.gemm(1.0, q.transposed(), w, 0.0, a);
  }
};

}  // namespace loraga
