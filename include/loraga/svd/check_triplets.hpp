#pragma once
#include <loraga/svd/rayleigh_ritz.hpp>

namespace loraga {

namespace detail {

/// Raises `flag` for matrix b where an entry of it minus the identity is above `limit`, or NaN; its columns of n are
/// one column b of x.
template <class X, class F>
struct flag_not_identity : max_abs<X, F> {
  index_t n;
  double limit;
  int flag;
  LORAGA_HD double map(index_t i, index_t b) const {
    double const entry = as_double(this->x(i, b));
    return std::fabs(i % (n + 1) == 0 ? entry - 1 : entry);
  }
  LORAGA_HD void finish(index_t b, double worst) const {
    if (!(worst <= limit)) this->d(0, b) |= flag;
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

}  // namespace detail

/// Looks at a batch of triplets before anybody uses them. U and V must be orthonormal to 1e-5 (1e-12 in double), values
/// finite and in order. Where energies are known (count x 1, else empty), no more may be captured than there is. What
/// is wrong raises a flag. An optimistic answer gets svd_ill_conditioned and is made again safely; a safe one gets
/// svd_inaccurate.
/// math    max |QT*Q - I|, the product in double: in float, rounding of many equal terms adds up to more than the limit
/// cost    2*k^2*(rows + cols) operations
template <Backend B, class T>
void check_triplets(B& be, triplet_slabs<T, typename B::space> const& t,
                    matrix_view<double const, typename B::space> energy, double scale, caution how,
                    slab_view<int, typename B::space> flags) {
  using V = matrix_view<T, typename B::space>;
  using S = matrix_view<double, typename B::space>;
  int const flag = how == caution::safe ? svd_inaccurate : svd_ill_conditioned;
  index_t const k = t.s.rows, count = t.s.count;
  using I = matrix_view<int, typename B::space>;
  I const flag_row = flags.side_by_side();
  be.for_each(1, count,
              detail::check_values<V, decltype(energy), I>{t.s.side_by_side(), energy, flag_row, scale, flag});
  scratch<B> temporary(be);
  auto const gram = temporary.template slab<double>(count, k, k);
  S const columns(gram.data, k * k, count, 1, k * k);
  double const limit = std::is_same_v<T, double> ? 1e-12 : 1e-5;
  auto const look_at = [&](slab_view<T, typename B::space> q) {
    be.gram_batched(q, gram);
    be.reduce_columns(k * k, count, detail::flag_not_identity<S, I>{{columns, flag_row}, k, limit, flag});
  };
  look_at(t.u);
  look_at(t.v);
}

}  // namespace loraga
