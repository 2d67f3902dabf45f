#pragma once
#include <loraga/linalg/reductions.hpp>

namespace loraga {

namespace detail {

/// m = m - I
template <class M>
struct minus_identity {
  M m;
  LORAGA_HD void operator()(index_t i, index_t) const { m(i, i) -= 1; }
};

/// m = weight*2*m/||m||_F; 0 stays 0
template <class M, class Cell>
struct norm_gradient {
  M m;
  Cell squares;
  double weight;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const norm = sqrt(squares(0, 0));
    m(i, j) = norm > 0 ? weight * 2 * m(i, j) / norm : 0.0;
  }
};

template <class Cell>
struct add_root {
  Cell squares, total;
  double weight;
  LORAGA_HD void operator()(index_t, index_t) const { total(0, 0) += weight * sqrt(squares(0, 0)); }
};

}  // namespace detail

/// AdaLoRA's regulariser, in double, for one factor p whose r columns should be orthonormal.
/// math    value += weight*||pT*p - I||_F; dp += weight*2*p*(pT*p - I)/||pT*p - I||_F, 0 where the norm is 0
/// shapes  value 1x1
/// cost    4*rows*r^2 operations
/// memory  scratch for two copies of p in double
/// source  the norm as huggingface/peft has it; arXiv:2303.10512 squares it
template <Backend B, class P, class G>
void add_orthonormality_term(B& be, P p, G dp, double weight, matrix_view<double, typename B::space> value) {
  index_t const r = p.cols;
  scratch<B> temporary(be);
  auto const m = temporary.template matrix<double>(r, r), squares = temporary.template matrix<double>(1, 1);
  auto const wide = temporary.template matrix<double>(p.rows, r), push = temporary.template matrix<double>(p.rows, r);
  convert(be, p, wide);
  be.gemm(1.0, wide.transposed(), wide, 0.0, m);
  be.for_each(r, 1, detail::minus_identity<decltype(m)>{m});
  sum_of_squares(be, m, squares);
  be.for_each(1, 1, detail::add_root<decltype(squares)>{squares, value, weight});
  be.for_each(r, r, detail::norm_gradient<decltype(m), decltype(squares)>{m, squares, weight});
  be.gemm(1.0, wide, m, 0.0, push);
  axpby(be, 1.0, push, 1.0, dp);
}

}  // namespace loraga
