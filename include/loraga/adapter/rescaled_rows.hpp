#pragma once
#include <loraga/concepts.hpp>

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

/// y += ratio*u - wx, row by row.
template <class R, class U, class P, class Y>
struct rescale_rows {
  R ratio;
  U u;
  P wx;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = compute_t<typename Y::value_type>;
    C const added = static_cast<C>(ratio(i, 0)) * static_cast<C>(u(i, j)) - value_as<C>(wx(i, j));
    y(i, j) = static_cast<typename Y::value_type>(static_cast<C>(y(i, j)) + added);
  }
};

/// scaled = (ratio - less)*dy
template <class R, class Y, class U>
struct scaled_rows {
  R ratio;
  Y dy;
  U scaled;
  typename U::value_type less;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename U::value_type;
    scaled(i, j) = (ratio(i, 0) - less) * value_as<C>(dy(i, j));
  }
};

/// out = x*y, entry by entry
template <class X, class Y, class Z>
struct products {
  X x;
  Y y;
  Z out;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using C = typename Z::value_type;
    out(i, j) = value_as<C>(x(i, j)) * value_as<C>(y(i, j));
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

}  // namespace loraga
