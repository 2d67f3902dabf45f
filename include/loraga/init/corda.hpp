#pragma once
#include <loraga/gradient/input_statistics.hpp>
#include <loraga/init/split_triplets.hpp>

namespace loraga {

enum class corda_part {
  ipm,  ///< the r leading triplets: what the inputs use most is trained (instruction-previewed)
  kpm   ///< the r last ones: what they use most stays frozen (knowledge-preserved)
};

namespace detail {

/// y's diagonal += amount
template <class Y>
struct add_to_diagonal {
  Y y;
  double amount;
  LORAGA_HD void operator()(index_t i, index_t) const { y(i, i) += amount; }
};

}  // namespace detail

/// CorDA: the adapter takes over the part of W that the inputs single out; use with an anchor and with
/// input_statistics that are `by_peak`.
/// math    C = mean over micro-batches of X*XT/max|X|^2, plus damping; W*C = U S VT; r triplets, S' = S/s:
///         B = U*sqrt(S'), A = sqrt(S')*VT*C^-1, so that all triplets together were W
/// The damping is 0.01*mean(diag C), doubled until ||C*C^-1 - I||_F < 0.05. Everything is in double: W*C spans many
/// orders of magnitude, and kpm takes its far end.
/// errors  shape_error if r > min(out, in); value_error if s <= 0 or no W is given; state_error for statistics that are
///         not by_peak
/// cost    about 5*in^3 + 2*out*in^2 operations and an SVD of out x in in double (kpm: all its triplets), layer by
///         layer; 3*in^2 + out*in doubles of scratch
/// source  arXiv:2406.05223 and its authors' code; where that divides by |max(X)|, this divides by max|X|
struct corda_init {
  corda_part part = corda_part::ipm;

  using needs = needs_inputs;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t) const { return 0; }
  void check(index_t out, index_t in, index_t r, double s, bool has_weight) const {
    require_rank(r, out, in, "corda_init");
    require_value(s > 0, s, "corda_init", "scaling s", "above 0");
    if (!has_weight) raise<value_error>("corda_init", "W", "not given", "a view of W");
  }

  template <Backend B, class Svd, class W, class S>
  auto factors(B& be, Svd const& svd, std::span<W const> weights, std::span<S const* const> inputs, index_t r) const {
    [[maybe_unused]] auto const precise = be.full_precision();
    for (auto const* s : inputs)
      if (!s->by_peak()) raise<state_error>("corda_init", "inputs", "not by_peak", "input_statistics with by_peak");
    index_t const out = weights[0].rows, in = weights[0].cols, all = std::min(out, in);
    svd_result<double, B> result(be, static_cast<index_t>(weights.size()), out, in, r);
    for (std::size_t i = 0; i < weights.size(); ++i) {
      scratch<B> temporary(be);
      auto const c = temporary.template matrix<double>(in, in), inverse = temporary.template matrix<double>(in, in);
      inputs[i]->second_moment(be, c);
      result.flags[i] = invert(be, c, inverse);
      if (result.flags[i] != svd_usable) continue;
      auto const product = temporary.template matrix<double>(out, in);
      be.gemm(1.0, weights[i], c, 0.0, product);
      matrix_view<double const, typename B::space> const one = product;
      auto const found = svd.top(be, view_list(&one, 1), part == corda_part::ipm ? r : all);
      result.flags[i] = found.flags[0];
      auto const from = some_triplets(found[0], found.triplets() - r, r);
      auto const to = result[static_cast<index_t>(i)];
      be.copy(from.u, to.u);
      be.copy(from.s, to.s);
      be.gemm(1.0, inverse, from.v, 0.0, to.v);
    }
    return result;
  }
  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    split_triplets(be, context.measured, context.scale, a, b);
  }

 private:
  /// c is damped until its inverse is one; flags as an SVD's.
  template <class B, class C>
  static int invert(B& be, C c, C inverse) {
    scratch<B> temporary(be);
    auto const rest = temporary.template matrix<double>(c.rows, c.cols), cell = temporary.template matrix<double>(1, 1);
    auto const flag = temporary.template slab<int>(1, 1, 1);
    trace(be, c, cell);
    double const mean = read_scalar(be, cell) / static_cast<double>(c.rows);
    if (!is_finite(mean)) return svd_not_finite;
    if (!(mean > 0)) return svd_zero;
    for (double damping = 0.01, added = 0;; damping *= 2) {
      be.for_each(c.rows, 1, detail::add_to_diagonal<C>{c, (damping - added) * mean});
      added = damping;
      be.copy(c, rest);
      loraga::fill(be, flag[0], 0);
      be.cholesky_inverse_batched(slab_view(rest), 0.0, 0.0, flag);
      be.gemm(1.0, rest, rest.transposed(), 0.0, inverse);
      be.gemm(1.0, c, inverse, 0.0, rest);
      be.for_each(c.rows, 1, detail::add_to_diagonal<C>{rest, -1});
      sum_of_squares(be, rest, cell);
      if (read_scalar(be, flag[0]) == svd_usable && read_scalar(be, cell) < 0.05 * 0.05) return svd_usable;
    }
  }
};

}  // namespace loraga
