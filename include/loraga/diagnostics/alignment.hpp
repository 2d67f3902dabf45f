#pragma once
#include <loraga/core/factors.hpp>
#include <loraga/linalg/reductions.hpp>

namespace loraga {

/// Cosine of the angle between two matrices as vectors. Waits for the backend.
/// errors  shape_error if shapes disagree; numeric_error if one is zero or not finite
template <Backend B, ViewIn<typename B::space> X, ViewIn<typename B::space> Y>
double cosine(B& be, X x, Y y) {
  require_shape(y, x.rows, x.cols, "cosine", "y");
  scratch<B> temporary(be);
  auto const cells = temporary.template matrix<double>(3, 1);
  dot(be, x, y, cells.row_range(0, 1));
  sum_of_squares(be, x, cells.row_range(1, 1));
  sum_of_squares(be, y, cells.row_range(2, 1));
  auto const v = read_all(be, cells);
  if (!is_finite(v[1]) || !is_finite(v[2]) || !(v[1] > 0 && v[2] > 0))
    raise<numeric_error>("cosine", "x or y", "zero or not finite", "finite and not zero");
  return v[0] / std::sqrt(v[1] * v[2]);
}

/// How well an adapter's first SGD step follows full fine-tuning's.
struct step_alignment {
  double cosine;    ///< of the change of s*B*A and -G
  double attained;  ///< energy of G that direction captures, as a share of what any rank-2r step can; 1 for LoRA-GA
};

/// How well an adapter's first SGD step follows full fine-tuning's, from G and the start's A and B. Waits for the
/// backend.
/// math    one SGD step of rate lr changes s*B*A by -lr*s^2*(G*AT*A + B*BT*G) + O(lr^2), a matrix of rank 2r, so no
///         cosine can exceed sqrt(sum_{i<2r} sigma_i^2)/||G||; attained = (cosine/that)^2
/// shapes  G out x in; a r x in, b out x r; `best` holds at least min(2r, out, in) triplets of G
/// errors  shape_error; numeric_error if G or the step is zero or not finite
/// cost    products of G with 4r columns, scratch of one out x in matrix
/// source  arXiv:2407.05000 section 3; docs/mathematics.md
template <Backend B, ViewIn<typename B::space> G, ViewIn<typename B::space> VA, ViewIn<typename B::space> VB, class T>
step_alignment first_step_alignment(B& be, G g, VA a, VB b, svd_result<T, B> const& best) {
  using C = compute_t<typename G::value_type>;
  require_shape(a, a.rows, g.cols, "first_step_alignment", "a");
  require_shape(b, g.rows, a.rows, "first_step_alignment", "b");
  index_t const k = std::min({2 * a.rows, g.rows, g.cols});
  if (best.count() < 1 || best.triplets() < k)
    raise<shape_error>("first_step_alignment", "best", std::to_string(best.count() ? best.triplets() : 0) + " triplets",
                       "at least " + std::to_string(k));
  auto const u = best[0].u.columns(0, k);
  require_shape(u, g.rows, k, "first_step_alignment", "best");
  scratch<B> temporary(be);
  auto const step = temporary.template matrix<C>(g.rows, g.cols);
  auto const left = temporary.template matrix<C>(g.rows, a.rows), right = temporary.template matrix<C>(a.rows, g.cols);
  be.gemm(1.0, g, a.transposed(), 0.0, left);
  be.gemm(1.0, b.transposed(), g, 0.0, right);
  be.gemm(1.0, left, a, 0.0, step);
  be.gemm(1.0, b, right, 1.0, step);
  double const c = cosine(be, step, g);
  auto const reached = temporary.template matrix<C>(k, g.cols);
  auto const energies = temporary.template matrix<double>(2, 1);
  be.gemm(1.0, u.transposed(), g, 0.0, reached);
  sum_of_squares(be, reached, energies.row_range(0, 1));
  sum_of_squares(be, g, energies.row_range(1, 1));
  auto const e = read_all(be, energies);
  return {c, c * c * e[1] / e[0]};
}

}  // namespace loraga
