#pragma once
#include <cmath>
#include <loraga/linalg/elementwise.hpp>

// What the initialisers share that make A and B of one set of singular triplets.

namespace loraga {

namespace detail {

/// dst(i, j) = sign*sqrt(sigma_j/divisor)*src(i, j)
template <class Src, class Sigma, class Cell, class Dst>
struct root_scaled_columns {
  Src src;
  Sigma sigma;
  Cell divisor;
  double sign;
  Dst dst;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const root = sqrt(static_cast<double>(sigma(j, 0)) / divisor(0, 0));
    double const x = sign * root * static_cast<double>(src(i, j));
    dst(i, j) = static_cast<typename Dst::value_type>(static_cast<compute_t<typename Dst::value_type>>(x));
  }
};

}  // namespace detail

/// Throws shape_error unless there are r triplets.
inline void require_rank(index_t r, index_t out, index_t in, std::string_view where) {
  if (r > std::min(out, in))
    raise<shape_error>(where, "rank", std::to_string(r),
                       "at most " + std::to_string(std::min(out, in)) + " for " + shape_text(out, in));
}

/// The same of a layer.
inline void require_rank(layer_facts const& of, std::string_view where) { require_rank(of.rank, of.out, of.in, where); }

/// n triplets from `first` on.
template <class T, class Space>
svd_factors<T, Space> some_triplets(svd_factors<T, Space> const& all, index_t first, index_t n) {
  return {all.u.columns(first, n), all.s.row_range(first, n), all.v.columns(first, n)};
}

/// A = sqrt(S/d)*VT and B = sign*U*sqrt(S/d), so that B*A = sign*U*S*VT/d; d is a 1x1 view of doubles.
template <Backend B, class F, class V>
void split_triplets(B& be, F const& triplets, matrix_view<double, typename B::space> d, double sign, V a, V b) {
  auto const place = [&](auto src, double factor, auto dst) {
    be.for_each(dst.rows, dst.cols,
                detail::root_scaled_columns<decltype(src), decltype(triplets.s), decltype(d), decltype(dst)>{
                    src, triplets.s, d, factor, dst});
  };
  place(triplets.v, 1, a.transposed());
  place(triplets.u, sign, b);
}
/// The same for a number d.
template <Backend B, class F, class V>
void split_triplets(B& be, F const& triplets, double d, V a, V b) {
  scratch<B> temporary(be);
  auto const cell = temporary.template matrix<double>(1, 1);
  fill(be, cell, d);
  split_triplets(be, triplets, cell, 1, a, b);
}

}  // namespace loraga
