#pragma once
#include <loraga/linalg/elementwise.hpp>

namespace loraga {

/// Adds the difference of two products, exactly 0 as long as they are the same. Both are formed and then subtracted:
/// one accumulated onto the other would leave rounding.
/// math    y = beta*y + scale*(left*right - left0*right0)
/// shapes  left, left0 m x k; right, right0 k x n; y m x n
/// cost    two products
/// memory  two m x n temporaries in compute_t of y
template <Backend B, class L, class R, class L0, class R0, MutableViewIn<typename B::space> Y>
void add_product_difference(B& be, double scale, L left, R right, L0 left0, R0 right0, double beta, Y y) {
  using C = compute_t<typename Y::value_type>;
  scratch<B> temporary(be);
  auto const now = temporary.template matrix<C>(y.rows, y.cols), start = temporary.template matrix<C>(y.rows, y.cols);
  be.gemm(1.0, left, right, 0.0, now);
  be.gemm(1.0, left0, right0, 0.0, start);
  axpby(be, -1.0, start, 1.0, now);
  axpby(be, scale, now, beta, y);
}

}  // namespace loraga
