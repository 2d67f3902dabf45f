#pragma once
#include <loraga/linalg/orthonormal.hpp>

namespace loraga {

/// Where an SVD method writes its k triplets, for every matrix of a batch.
template <class T, class Space>
struct triplet_slabs {
  slab_view<T, Space> u, s, v;
  triplet_slabs transposed() const { return {v, s, u}; }
  /// Those of n matrices from `first` on.
  triplet_slabs matrices(index_t first, index_t n) const {
    return {u.matrices(first, n), s.matrices(first, n), v.matrices(first, n)};
  }
};

/// How a method orthonormalises. `optimistic`: the whole batch at once, leaving flags. `noisy`: the same once more for
/// those with a flag, with a little noise in every block, so that no rank is missing; where looks cost more than work.
/// `safe`: one matrix, which a flag made the method repeat, with a look at each outcome.
enum class caution { optimistic, noisy, safe };

/// One orthonormalisation pass from y to q: CholeskyQR, or column by column.
template <Backend B, class T>
void orthonormal_pass(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> q, pivot_limits limits,
                      caution how, random_stream stream, slab_view<int, typename B::space> flags) {
  if (how != caution::safe) return cholesky_qr(be, y, q, limits, flags);
  for (index_t b = 0; b < y.count; ++b) {
    be.copy(y[b], q[b]);
    orthonormalize_columns(be, q[b], 0, stream);
  }
}

namespace detail {

template <class Y, class D>
struct column_lengths : sum_of_doubles {
  Y y;
  D d;  // cols x 1
  LORAGA_HD double map(index_t i, index_t j) const { return as_double(y(i, j)) * as_double(y(i, j)); }
  LORAGA_HD void finish(index_t j, double sum) const { d(j, 0) = sqrt(sum); }
};

/// Columns to unit length, plus noise of length `size`; a column of 0 becomes noise alone, one that is not finite
/// stays.
template <class Y, class D>
struct mix_noise {
  Y y;
  D length;
  double size;
  random_stream stream;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename Y::value_type;
    double const unit = size / sqrt(static_cast<double>(y.rows) / 3.0);  // of numbers in [-1, 1]
    double const noise = unit * (2 * random_uniform(stream, static_cast<std::uint64_t>(j * y.rows + i)) - 1);
    double const here = length(j, 0) > 0 ? static_cast<double>(y(i, j)) / length(j, 0) : static_cast<double>(y(i, j));
    y(i, j) = static_cast<T>(here + noise);
  }
};

/// Singular values from eigenvalues of the Gram matrix, for `k` columns per matrix; those below rounding become 0.
template <class V, class S, class I>
struct ritz_values {
  V values;   // l x count
  S sigma;    // k x count
  I inverse;  // (k*count) x 1
  index_t k;
  double unit;
  LORAGA_HD void operator()(index_t i, index_t b) const {
    double const top = values(0, b), here = values(i, b);
    // rounding of the matrix, or of its Gram matrix in double, whichever is coarser
    double const noise = (unit * unit > 2.3e-16 ? unit * unit : 2.3e-16) * static_cast<double>(values.rows);
    bool const real = here > 0 && here > noise * top;
    double const s = real ? sqrt(here) : 0.0;
    sigma(i, b) = static_cast<typename S::value_type>(s);
    inverse(b * k + i, 0) = static_cast<typename I::value_type>(real ? 1.0 / s : 0.0);
  }
};

/// Columns of v to unit length; where sigma is 0, v is noise and random numbers take its place, for completion.
template <class V, class I>
struct normalise_ritz_vectors {
  V v;
  I inverse;
  random_stream stream;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    auto const random = [&] { return random_uniform(stream, static_cast<std::uint64_t>(j * v.rows + i)) - 0.5; };
    v(i, j) = inverse(j, 0) > 0 ? v(i, j) * inverse(j, 0)
                                : static_cast<T>(random() / sqrt(static_cast<double>(v.rows) / 12.0));
  }
};

}  // namespace detail

/// As rayleigh_ritz, but V as it comes: unit columns, orthonormal to about eps*s_1/s_i, and random where s is 0.
template <Backend B, class T, class Left, class Right>
void raw_ritz(B& be, slab_view<double, typename B::space> gram, triplet_slabs<T, typename B::space> out,
              random_stream stream, slab_view<int, typename B::space> flags, Left const& left, Right const& right) {
  scratch<B> temporary(be);
  index_t const l = gram.cols, k = out.s.rows, n = out.v.rows, count = gram.count;
  auto const values = temporary.template slab<double>(count, l, 1);
  be.eigh_batched(gram, k, values, flags);
  auto const w = temporary.template slab<T>(count, l, k);
  detail::in_step(be, count, [&](B& one, index_t b) { convert(one, gram[b].columns(0, k), w[b]); });
  left(w, out.u);
  right(w, out.v);

  auto const inverse = temporary.template matrix<T>(k * count, 1);
  using V = matrix_view<T, typename B::space>;
  be.for_each(k, count,
              detail::ritz_values<matrix_view<double, typename B::space>, V, V>{
                  values.side_by_side(), out.s.side_by_side(), inverse, k,
                  static_cast<double>(std::numeric_limits<T>::epsilon())});
  be.for_each(n, k * count, detail::normalise_ritz_vectors<V, V>{out.v.side_by_side(), inverse, derive(stream, 1)});
}

/// Mixes noise into a block, so that its columns are independent whatever they were: a factorisation of their Gram
/// matrix in double then stands (pivots are above 1e-11). What they spanned is moved by 4e-6, its energy by 2e-11.
template <Backend B, class T>
void add_noise(B& be, slab_view<T, typename B::space> y, random_stream stream) {
  scratch<B> temporary(be);
  using Y = matrix_view<T, typename B::space>;
  using D = matrix_view<double, typename B::space>;
  Y const all = y.side_by_side();
  D const length = temporary.template matrix<double>(all.cols, 1);
  be.reduce_columns(all.rows, all.cols, detail::column_lengths<Y, D>{{}, all, length});
  be.for_each(all.rows, all.cols, detail::mix_noise<Y, D>{all, length, 4e-6, stream});
}

/// The triplets of A within a subspace, from the Gram matrix of its image.
/// `left(w, u)` writes Q*w to u, `right(w, v)` writes Z*w to v; gram is destroyed. Directions with
/// s <= max(eps, 1.5e-8)*s_1*sqrt(l) are rounding: s becomes 0 and v is completed to an orthonormal set.
/// math    S = ZT*Z for Z = AT*Q, Q orthonormal; S = W diag(s^2) WT; U = Q*W, V = Z*W/s, made orthonormal once more
template <Backend B, class T, class Left, class Right>
void rayleigh_ritz(B& be, slab_view<double, typename B::space> gram, triplet_slabs<T, typename B::space> out,
                   caution how, random_stream stream, slab_view<int, typename B::space> flags, Left const& left,
                   Right const& right) {
  scratch<B> temporary(be);
  auto const raw = temporary.template slab<T>(gram.count, out.v.rows, out.s.rows);
  raw_ritz(be, gram, triplet_slabs<T, typename B::space>{out.u, out.s, raw}, stream, flags, left, right);
  if (how == caution::noisy) {
    auto const once = temporary.template slab<T>(gram.count, out.v.rows, out.s.rows);
    orthonormal_pass(be, raw, once, first_pass(raw.cols), how, derive(stream, 2), flags);
    return orthonormal_pass(be, once, out.v, repeated_pass(), how, derive(stream, 2), flags);
  }
  // Nearly orthonormal already, unless many columns were completed: one pass is enough, and says if it was not.
  orthonormal_pass(be, raw, out.v, repeated_pass(), how, derive(stream, 2), flags);
}

}  // namespace loraga
