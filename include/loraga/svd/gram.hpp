#pragma once
#include <loraga/svd/driver.hpp>

namespace loraga {

/// Exact triplets through the Gram matrix of the smaller side, formed and diagonalised in double.
/// math    for m <= n: A*AT = W diag(s^2) WT; U = W, V = AT*W/s, made orthonormal once more
/// loss    rounding: s_i is exact to eps_double*(s_1/s_i)^2 relative; below 1.5e-8*s_1*sqrt(m) (1.2e-7 in float) it means
///         nothing and is reported as 0
/// errors  shape_error for k outside 1..min(m, n); numeric faults are flags of the result
/// cost    2*m^2*n operations in double and an m x m eigenproblem (about 10*m^3): for small sides, up to about 1024
struct gram {
  static constexpr bool takes_noise = true;
  /// Numbers of scratch for each matrix: the Gram matrix twice in double, V twice.
  index_t scratch_numbers(index_t rows, index_t cols, index_t k) const {
    index_t const shorter = std::min(rows, cols), longer = std::max(rows, cols);
    return 4 * shorter * shorter + 2 * longer * k;
  }

  /// With `unread`, flags are left there (see unread_flags).
  template <Backend B, class T, class... Unread>
  auto top(B& be, view_list<T, typename B::space> a, index_t k, Unread&... unread) const {
    return factor_batch(be, *this, a, k, random_stream{}, "gram::top", unread...);
  }

  /// One attempt at the triplets of an operator, for factor_batch.
  template <Backend B, class Op, class T>
  void run(B& be, Op const& op, triplet_slabs<T, typename B::space> out, slab_view<int, typename B::space> flags,
           caution how) const {
    if (op.rows() > op.cols()) return run(be, op.transposed(), out.transposed(), flags, how);
    scratch<B> temporary(be);
    auto const s = temporary.template slab<double>(op.count(), op.rows(), op.rows());
    be.gram_batched(op.a.transposed(), s);
    if (op.scale != 1.0) axpby(be, op.scale * op.scale, s.side_by_side(), 0.0, s.side_by_side());
    rayleigh_ritz(
        be, s, out, how, random_stream{}, flags,
        [&](auto const& w, auto const& u) { be.copy(w.side_by_side(), u.side_by_side()); },
        [&](auto const& w, auto const& v) { op.apply_transposed(be, w, v); });
  }
};

}  // namespace loraga
