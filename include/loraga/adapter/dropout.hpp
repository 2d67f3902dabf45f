#pragma once
#include <loraga/linalg/random.hpp>

// Dropout without stored masks: backward draws again what forward drew.

namespace loraga {

namespace functor {

/// Counts a forward pass, where the backend's memory is, so that a captured step draws a new mask at every replay.
template <class Cell>
struct next_pass {
  Cell counter, pass;
  LORAGA_HD void operator()(index_t, index_t) const { pass(0, 0) = ++counter(0, 0); }
};

/// out = beta*out + mask*x/(1-p), the mask a function of (seed, pass, row, column): four rows share a block of bits.
template <class X, class Y, class Cell>
struct dropout {
  using C = compute_t<typename Y::value_type>;
  X x;
  Y out;
  C beta, keep_scale;
  std::uint32_t threshold;  // dropped if the random word is below
  std::uint64_t seed;
  Cell pass;
  LORAGA_HD void operator()(index_t g, index_t j) const {
    auto const bits = philox(seed, static_cast<std::uint64_t>(g) << 32 | static_cast<std::uint64_t>(j), pass(0, 0));
    for (index_t i = 4 * g, b = 0; i < out.rows && b < 4; ++i, ++b) {
      C const kept = bits.word[b] < threshold ? C(0) : keep_scale * static_cast<C>(x(i, j));
      C const old = beta == C(0) ? C(0) : beta * static_cast<C>(out(i, j));
      out(i, j) = static_cast<typename Y::value_type>(kept + old);
    }
  }
};

}  // namespace functor

}  // namespace loraga
