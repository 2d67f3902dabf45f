#pragma once
#include <cmath>
#include <loraga/linalg/elementwise.hpp>

namespace loraga {

namespace functor {

/// dst(i, j) = sqrt(sigma_j/scale)*src(i, j)
template <class Src, class Sigma, class Dst>
struct root_scaled_columns {
  Src src;
  Sigma sigma;
  double scale;
  Dst dst;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const x = sqrt(static_cast<double>(sigma(j, 0)) / scale) * static_cast<double>(src(i, j));
    dst(i, j) = static_cast<typename Dst::value_type>(static_cast<compute_t<typename Dst::value_type>>(x));
  }
};

}  // namespace functor

/// PiSSA: the adapter takes over W's principal part; use with an anchor.
/// math    W ~ U S VT; A = sqrt(S/s)*VT, B = U*sqrt(S/s), r triplets, so that s*B*A is W's best rank-r approximation
/// errors  shape_error if r > min(out, in); value_error if s <= 0
/// cost    r*(out + in) elements, asynchronous
/// source  arXiv:2404.02948
struct pissa_init {
  using needs = needs_weight;
  static constexpr bool starts_at_zero = false;
  index_t gradient_triplets(index_t) const { return 0; }
  index_t weight_triplets(index_t r) const { return r; }
  void check(index_t out, index_t in, index_t r, double s, bool) const {
    if (r > std::min(out, in))
      raise<shape_error>("pissa_init", "rank", std::to_string(r), "at most " + std::to_string(std::min(out, in)));
    require_value(s > 0, s, "pissa_init", "scaling s", "above 0");
  }

  template <Backend B, class Context, class W, MutableViewIn<typename B::space> V>
  void fill(B& be, Context const& context, W, V a, V b) const {
    auto const [u, sigma, v] = context.weight;
    auto const at = a.transposed();
    be.for_each(at.rows, at.cols,
                functor::root_scaled_columns<decltype(v), decltype(sigma), decltype(at)>{v, sigma, context.scale, at});
    be.for_each(b.rows, b.cols,
                functor::root_scaled_columns<decltype(u), decltype(sigma), V>{u, sigma, context.scale, b});
  }
};

}  // namespace loraga
