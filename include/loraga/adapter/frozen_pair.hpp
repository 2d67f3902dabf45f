#pragma once
#include <loraga/linalg/elementwise.hpp>

namespace loraga {

/// The factors of a product left*right, wherever they lie.
template <class T, class Space>
struct product_sides {
  matrix_view<T const, Space> left;   ///< the left one
  matrix_view<T const, Space> right;  ///< the right one
};

/// How frozen_pair stacks an adapter's factors with those of its start.
enum class pair_form {
  by_difference,  ///< [B - B0, B0] and [A; A - A0]
  apart           ///< [B, -B0] and [A; A0]: for an input of each
};

namespace detail {

/// Column j of AT, A0T, B and B0 becomes column j and r + j of PT and Q; where Q has 3r columns, `seen` is its last
/// third.
template <class A, class Bv, class S>
struct frozen_pair {
  A at, at0;
  Bv b, b0, seen;
  S pt, q;
  pair_form form;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename S::value_type;
    using C = compute_t<T>;
    index_t const r = at.cols;
    bool const apart = form == pair_form::apart;
    if (i < at.rows) {
      C const now = value_as<C>(at(i, j)), start = value_as<C>(at0(i, j));
      pt(i, j) = static_cast<T>(now);
      pt(i, r + j) = static_cast<T>(apart ? start : now - start);
    }
    if (i < b.rows) {
      C const now = value_as<C>(b(i, j)), start = value_as<C>(b0(i, j));
      q(i, j) = static_cast<T>(apart ? now : now - start);
      q(i, r + j) = static_cast<T>(apart ? -start : start);
      if (q.cols > 2 * r) q(i, 2 * r + j) = static_cast<T>(value_as<C>(seen(i, j)));
    }
  }
};

/// h = the upper half of g plus the lower one
template <class G>
struct sum_of_halves {
  G g, h;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename G::value_type;
    using C = compute_t<T>;
    h(i, j) = static_cast<T>(static_cast<C>(g(i, j)) + static_cast<C>(g(h.rows + i, j)));
  }
};

}  // namespace detail

/// The stacks of `frozen_pair` below in given memory. A left one of 3r columns gets `seen` as the last r: one product
/// with dY then gives G and seenT*dY.
/// shapes  b, b0, seen out x r; a, a0 r x in; q out x 2r or 3r; pt in x 2r
/// cost    one sweep over q and pt
template <Backend B, class Bv, class A, class S>
void stack_pair(B& be, Bv b, A a, Bv b0, A a0, Bv seen, S q, S pt, pair_form form) {
  be.for_each(std::max(a.cols, b.rows), a.rows,
              detail::frozen_pair<A, Bv, S>{a.transposed(), a0.transposed(), b, b0, seen, pt, q, form});
}

/// B*A - B0*A0 as one product of depth 2r, in scratch memory.
/// math    left*right = (B - B0)*A + B0*(A - A0). While B = B0 and A = A0 it has a factor 0 in every term: left*(right*x)
///         and rightT*(leftT*y) are then exactly 0 for finite operands, in whatever order a product sums
/// loss    differences are formed in compute_t<T> and rounded to T once: to 2^-9 of the difference in bf16. That of two
///         16-bit numbers within a factor of 2 is exact
/// shapes  b, b0 out x r; a, a0 r x in; left out x 2r; right 2r x in, by rows
/// cost    one sweep over 2r*(in + out) numbers
template <Element T, Backend B, class Bv, class A>
product_sides<T, typename B::space> frozen_pair(B& be, scratch<B>& temporary, Bv b, A a, Bv b0, A a0,
                                                pair_form form = pair_form::by_difference) {
  auto const pt = temporary.template matrix<T>(a.cols, 2 * a.rows),
             q = temporary.template matrix<T>(b.rows, 2 * a.rows);
  stack_pair(be, b, a, b0, a0, b, q, pt, form);
  return {q, pt.transposed()};
}

}  // namespace loraga
