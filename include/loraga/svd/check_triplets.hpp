#pragma once
#include <loraga/svd/rayleigh_ritz.hpp>

namespace loraga {

namespace functor {

/// Raises `flag` for matrix j where an |x| of column j is above `limit`, or NaN.
template <class X, class F>
struct flag_large_columns : max_abs<X, F> {
  double limit;
  int flag;
  LORAGA_HD void finish(index_t j, double worst) const {
    if (!(worst <= limit)) this->d(0, j) |= flag;
  }
};

/// Singular values must descend, from a finite one to one not below 0, and hold no more energy than there is.
template <class S, class E, class F>
struct check_values {
  S sigma;   // k x count, of scale times each matrix
  E energy;  // count x 1, of the whole matrices, or empty
  F flags;   // 1 x count
  double scale;
  int flag;
  LORAGA_HD void operator()(index_t, index_t b) const {
    double sum = 0, last = as_double(sigma(0, b));
    bool good = is_finite(last);
    for (index_t i = 0; i < sigma.rows; ++i) {
      double const s = as_double(sigma(i, b));
      good = good && s >= 0 && s <= last;
      sum += s * s;
      last = s;
    }
    if (energy.rows > 0) good = good && sum <= 1.0001 * energy(b, 0) * (scale * scale);
    if (!good) flags(0, b) |= flag;
  }
};

}  // namespace functor

/// Looks at a batch of triplets before anybody uses them: U and V orthonormal, values in order and finite and, where
/// energies are known (count x 1, else empty), no more captured than there is. What is wrong raises a flag:
/// svd_ill_conditioned for an optimistic answer, which is then made again safely; after that svd_inaccurate.
/// math    for random c: max |QT*(Q*c) - c| <= sqrt(k)*1e-5 (1e-12 in double)
/// cost    8*k*(rows + cols) operations
template <Backend B, class T>
void check_triplets(B& be, triplet_slabs<T, typename B::space> const& t,
                    matrix_view<double const, typename B::space> energy, double scale, caution how,
                    slab_view<int, typename B::space> flags) {
  using V = matrix_view<T, typename B::space>;
  int const flag = how == caution::safe ? svd_inaccurate : svd_ill_conditioned;
  index_t const k = t.s.rows, count = t.s.count, probes = 2;
  auto const flag_row = flags.side_by_side();
  auto const sigma = t.s.side_by_side();
  be.for_each(1, count,
              functor::check_values<V, decltype(energy), decltype(flag_row)>{sigma, energy, flag_row, scale, flag});

  scratch<B> temporary(be);
  auto const c = temporary.template slab<T>(count, k, 2 * probes), g = temporary.template slab<T>(count, k, 2 * probes);
  fill_test_matrix(be, c.side_by_side(), {0, 1});
  be.copy(c.side_by_side(), g.side_by_side());
  auto const probe = [&](slab_view<T, typename B::space> q, index_t first) {
    scratch<B> one(be);
    auto const y = one.template slab<T>(count, q.rows, probes);
    be.gemm_batched(1.0, q, c.columns(first, probes), 0.0, y);
    be.gemm_batched(1.0, q.transposed(), y, -1.0, g.columns(first, probes));
  };
  probe(t.u, 0);
  probe(t.v, probes);
  V const columns(g.data, 2 * k * probes, count, 1, 2 * k * probes);
  double const limit = (std::is_same_v<T, double> ? 1e-12 : 1e-5) * std::sqrt(static_cast<double>(k));
  be.reduce_columns(columns.rows, count,
                    functor::flag_large_columns<V, decltype(flag_row)>{{columns, flag_row}, limit, flag});
}

}  // namespace loraga
