#pragma once
#include <loraga/gradient/input_statistics.hpp>
#include <loraga/init/split_triplets.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// Which triplets CorDA's adapter takes over.
enum class corda_part {
  ipm,  ///< the r leading ones: what the inputs use most is trained (instruction-previewed)
  kpm   ///< the r last ones: what the inputs use most stays frozen (knowledge-preserved)
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

/// CorDA's need: `count` triplets of W*C, where C is the damped second moment of the inputs. They are handed on as
/// svd_factors whose v are C^-1 times those of W*C. It is met by W, input_statistics that are by_peak, and an
/// SvdMethod.
/// errors  as whole_weight and input_directions; state_error for statistics that are not by_peak
/// cost    see corda_init
struct input_weighted_triplets {
  index_t count = 1;
  corda_part part = corda_part::ipm;  ///< the leading or the last ones

  template <class B, class L, class Svd>
  static constexpr bool met = (whole_weight::met<B, L, Svd> && input_directions::met<B, L, Svd>);
  template <class B, class L, class Svd>
  static constexpr void explain() {
    constexpr bool weight = whole_weight::met<B, L, Svd>, inputs = input_directions::met<B, L, Svd>;
    static_assert(weight, "this initialiser needs W: give a view of it");
    static_assert(inputs,
                  "this initialiser needs what the layer's inputs were, and an SVD method: give input_statistics");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool sampled) const {
    whole_weight{}.check(l, where, sampled);
    input_directions::check_statistics(l, where, true, sampled);
  }
  template <class B, class L, class Svd>
  auto measure(B& be, std::span<L const* const> layers, Svd const& svd) const {
    [[maybe_unused]] auto const precise = be.full_precision();
    index_t const out = layers[0]->adapter->out(), in = layers[0]->adapter->in(), all = std::min(out, in);
    svd_result<double, B> result(be, static_cast<index_t>(layers.size()), out, in, count);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      scratch<B> temporary(be);
      auto const c = temporary.template matrix<double>(in, in), inverse = temporary.template matrix<double>(in, in);
      layers[i]->source->second_moment(be, c);
      result.flags[i] = invert(be, c, inverse);
      if (result.flags[i] != svd_usable) continue;
      auto const product = temporary.template matrix<double>(out, in);
      be.gemm(1.0, detail::weight_of<B>(*layers[i]), c, 0.0, product);
      const_view<double, typename B::space> const one = product;
      auto const found = svd.top(be, view_list(&one, 1), part == corda_part::ipm ? count : all);
      result.flags[i] = found.flags[0];
      auto const from = some_triplets(found[0], found.triplets() - count, count);
      auto const to = result[static_cast<index_t>(i)];
      be.copy(from.u, to.u);
      be.copy(from.s, to.s);
      be.gemm(1.0, inverse, from.v, 0.0, to.v);
    }
    return result;
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

/// CorDA: the adapter takes over the part of W that the inputs single out. Use it with an anchor, and with
/// input_statistics that are `by_peak`. Everything is computed in double, because W*C spans many orders of magnitude
/// and kpm takes its far end.
/// math    C = mean over micro-batches of X*XT/max|X|^2, plus damping; W*C = U S VT; r triplets, S' = S/s:
///         B = U*sqrt(S'), A = sqrt(S')*VT*C^-1, so that s*B*A of all triplets together is W; the damping is
///         0.01*mean(diag C), doubled until ||C*C^-1 - I||_F < 0.05
/// errors  shape_error if r > min(out, in); value_error if s <= 0 or no W is given; state_error for statistics that are
///         not by_peak
/// cost    about 5*in^3 + 2*out*in^2 operations and an SVD of out x in in double (kpm: all its triplets), layer by
///         layer
/// memory  3*in^2 + out*in doubles of scratch
/// source  arXiv:2406.05223 and its authors' code; where that divides by |max(X)|, this divides by max|X|
struct corda_init {
  corda_part part = corda_part::ipm;  ///< which triplets

  static constexpr start_kind starts = start_kind::offset;
  input_weighted_triplets needs(layer_facts const& of) const { return {of.rank, part}; }
  void check(layer_facts const& of) const {
    require_rank(of, "corda_init");
    require_value(of.scale > 0, of.scale, "corda_init", "scaling s", "above 0");
  }

  template <Backend B, class F, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, F const& triplets, V a, V b) const {
    split_triplets(be, triplets, at.scale, a, b);
  }
};

}  // namespace loraga
