#pragma once
#include <loraga/adapter/inner_type.hpp>
#include <loraga/adapter/row_norms.hpp>

// The elementwise parts of DoRA.

namespace loraga {

namespace detail {

/// ratio = g/N; 1 where a row is zero and has no direction to rescale.
template <class G, class N>
struct magnitude_ratio {
  G magnitude;
  N norm, ratio;
  LORAGA_HD void operator()(index_t j, index_t) const {
    using C = typename N::value_type;
    ratio(j, 0) = norm(j, 0) > C(0) ? static_cast<C>(magnitude(j, 0)) / norm(j, 0) : C(1);
  }
};

/// u += wx; y += ratio*u - wx, row by row.
template <class R, class U, class P, class Y>
struct rescale_beside {
  R ratio;
  U u;
  P wx;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    C const product = value_as<C>(wx(i, j)), sum = product + value_as<C>(u(i, j));
    u(i, j) = static_cast<typename U::value_type>(static_cast<compute_t<typename U::value_type>>(sum));
    y(i, j) =
        static_cast<typename Y::value_type>(static_cast<C>(y(i, j)) + (static_cast<C>(ratio(i, 0)) * sum - product));
  }
};

/// u += y; y = ratio*u, row by row.
template <class R, class U, class Y>
struct rescale_in_place {
  R ratio;
  U u;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    C const sum = static_cast<C>(y(i, j)) + value_as<C>(u(i, j));
    u(i, j) = static_cast<typename U::value_type>(static_cast<compute_t<typename U::value_type>>(sum));
    y(i, j) = static_cast<typename Y::value_type>(static_cast<C>(ratio(i, 0)) * sum);
  }
};

/// y += ratio*(wx + v) - wx, or y = ratio*(wx + v) where wx is y itself; kept = wx, unless that is where it is.
template <class R, class V, class P, class K, class Y>
struct rescale_product {
  R ratio;
  V v;
  P wx;
  K kept;
  Y y;
  bool in_place, keeps;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    C const product = value_as<C>(wx(i, j)), sum = product + value_as<C>(v(i, j));
    C const fresh = static_cast<C>(ratio(i, 0)) * sum;
    if (keeps)
      kept(i, j) = static_cast<typename K::value_type>(static_cast<compute_t<typename K::value_type>>(product));
    y(i, j) = static_cast<typename Y::value_type>(in_place ? fresh : value_as<C>(y(i, j)) + (fresh - product));
  }
};

/// scaled = (ratio - less)*dy
template <class R, class Y, class U>
struct scaled_rows {
  using C = compute_t<typename U::value_type>;
  R ratio;
  Y dy;
  U scaled;
  C less;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    scaled(i, j) = static_cast<typename U::value_type>((ratio(i, 0) - less) * value_as<C>(dy(i, j)));
  }
};

/// weighted = dy*u, which dg is the sum of; scaled = ratio*dy
template <class R, class Y, class U, class S, class M>
struct rescale_gradient {
  R ratio;
  Y dy;
  U u;
  S scaled;
  M weighted;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename U::value_type;
    C const g = value_as<C>(dy(i, j));
    weighted(i, j) = g * u(i, j);
    scaled(i, j) = ratio(i, 0) * g;
  }
};

/// The same where scaled takes u's place. (A compiler cannot tell that the functor above may run along vectors then.)
template <class R, class Y, class U, class M>
struct rescale_gradient_in_place {
  R ratio;
  Y dy;
  U u;
  M weighted;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename U::value_type;
    C const g = value_as<C>(dy(i, j));
    weighted(i, j) = g * u(i, j);
    u(i, j) = ratio(i, 0) * g;
  }
};

/// At least 32 tokens, and at most 64 runs of them.
inline index_t tokens_of_a_run(index_t tokens) { return std::max<index_t>(32, (tokens + 63) / 64); }

/// part(i, p) = the sum of dy*u over the p-th run of tokens; scaled = ratio*dy. Neighbouring threads have neighbouring
/// rows.
template <class R, class Y, class U, class M>
struct rescale_gradient_of_run {
  R ratio;
  Y dy;
  U u, scaled;
  M part;
  index_t run;
  LORAGA_HD void operator()(index_t i, index_t p) const {
    using T = typename U::value_type;
    using C = compute_t<T>;
    double sum = 0;
    index_t const end = (p + 1) * run < dy.cols ? (p + 1) * run : dy.cols;
    for (index_t j = p * run; j < end; ++j) {
      C const g = value_as<C>(dy(i, j));
      sum += static_cast<double>(g) * as_double(u(i, j));
      scaled(i, j) = static_cast<T>(ratio(i, 0) * g);
    }
    part(i, p) = sum;
  }
};

/// dg += (the sum of row j of part + left*d)/N; db += ratio*d, where d = s*dY*HT. Column db.cols of the grid is dg's.
template <class M, class F, class D, class R, class G, class Gb>
struct gradients_of_rows {
  M part;
  F left;
  D d;
  R ratio, norm;
  G dg;
  Gb db;
  LORAGA_HD void operator()(index_t j, index_t i) const {
    using C = typename G::value_type;
    if (i < db.cols) {
      db(j, i) += ratio(j, 0) * d(j, i);
    } else if (norm(j, 0) > C(0)) {
      double sum = 0;
      for (index_t p = 0; p < part.cols; ++p) sum += part(j, p);
      for (index_t k = 0; k < d.cols; ++k) sum += as_double(left(j, k)) * as_double(d(j, k));
      dg(j, 0) += static_cast<C>(sum / as_double(norm(j, 0)));
    }
  }
};

/// dg += sum/N
template <class S, class N, class G>
struct magnitude_gradient {
  S sum;
  N norm;
  G gradient;
  LORAGA_HD void operator()(index_t j, index_t) const {
    using C = typename G::value_type;
    if (norm(j, 0) > C(0)) gradient(j, 0) += sum(j, 0) / norm(j, 0);
  }
};

/// w += factor*(ratio*(w + change) - w)
template <class R, class D, class W>
struct rescale_weight {
  R ratio;
  D change;
  W w;
  double factor;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const old = as_double(w(i, j)), fresh = as_double(ratio(i, 0)) * (old + as_double(change(i, j)));
    using C = compute_t<typename W::value_type>;
    w(i, j) = static_cast<typename W::value_type>(static_cast<C>(old + factor * (fresh - old)));
  }
};

/// w = w/ratio - change
template <class R, class D, class W>
struct restore_weight {
  R ratio;
  D change;
  W w;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename W::value_type>;
    double const old = as_double(w(i, j)) / as_double(ratio(i, 0)) - as_double(change(i, j));
    w(i, j) = static_cast<typename W::value_type>(static_cast<C>(old));
  }
};

}  // namespace detail

/// DoRA's output from u = s*B*A*x.
/// math    u = wx + u; y = y - wx + ratio*u
/// shapes  ratio out x 1; u, wx, y out x tokens; wx may be y itself, which then becomes ratio*u
template <Backend B, class R, class U, class P, class Y>
void rescale_rows(B& be, R ratio, U u, P wx, Y y) {
  if (static_cast<void const*>(wx.data) == static_cast<void const*>(y.data))
    return be.for_each(y.rows, y.cols, detail::rescale_in_place<R, U, Y>{ratio, u, y});
  be.for_each(y.rows, y.cols, detail::rescale_beside<R, U, P, Y>{ratio, u, wx, y});
}

/// DoRA's D, and its share of dg*N.
/// math    sum = sum over tokens of dy*u; scaled = ratio*dy
/// shapes  ratio, sum out x 1; dy, u, scaled out x tokens, at least one token; scaled may be u itself
/// memory  scratch of u's size
template <Backend B, class R, class Y, class U, class S>
void rescale_gradient(B& be, R ratio, Y dy, U u, U scaled, S sum) {
  scratch<B> temporary(be);
  auto const weighted = temporary.template matrix<typename U::value_type>(u.rows, u.cols);
  if (scaled.data == u.data)
    be.for_each(u.rows, u.cols, detail::rescale_gradient_in_place<R, Y, U, U>{ratio, dy, u, weighted});
  else be.for_each(u.rows, u.cols, detail::rescale_gradient<R, Y, U, U, U>{ratio, dy, u, scaled, weighted});
  fold_columns(be, weighted);
  be.copy(weighted.columns(0, 1), sum);
}

// On a device, which goes over all tokens at once, W*X is kept and its sum with v = s*B*A*X is not: one sweep writes
// what one reads, and what v adds to dg comes with dB.

/// DoRA's output from W*X and v.
/// math    y = y - wx + ratio*(wx + v); kept = wx
/// shapes  ratio out x 1; v, wx, kept, y out x tokens; wx may be y itself, which then becomes ratio*(wx + v), or kept
template <Backend B, class R, class V, class P, class K, class Y>
void rescale_product(B& be, R ratio, V v, P wx, K kept, Y y) {
  auto const same = [&](auto const& m) {
    return static_cast<void const*>(m.data) == static_cast<void const*>(wx.data);
  };
  be.for_each(y.rows, y.cols, detail::rescale_product<R, V, P, K, Y>{ratio, v, wx, kept, y, same(y), !same(kept)});
}

/// Runs of tokens that rescale_gradient_by_runs sums: as many columns has `part`.
inline index_t gradient_runs(index_t tokens) {
  index_t const run = detail::tokens_of_a_run(tokens);
  return (tokens + run - 1) / run;
}
/// math    scaled = ratio*dy; part(:, p) = the sum of dy*wx over the p-th run of tokens, in double
/// shapes  ratio out x 1; dy, wx, scaled out x tokens; part out x gradient_runs(tokens); scaled may be wx itself
template <Backend B, class R, class Y, class U, class M>
void rescale_gradient_by_runs(B& be, R ratio, Y dy, U wx, U scaled, M part) {
  index_t const run = detail::tokens_of_a_run(wx.cols);
  be.for_each(wx.rows, part.cols, detail::rescale_gradient_of_run<R, Y, U, M>{ratio, dy, wx, scaled, part, run});
}

}  // namespace loraga
