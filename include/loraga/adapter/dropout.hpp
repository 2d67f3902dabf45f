#pragma once
#include <loraga/linalg/random.hpp>
#include <loraga/linalg/reductions.hpp>

// Dropout without stored masks: backward draws again what forward drew.

namespace loraga {

namespace detail {

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

}  // namespace detail

/// The masks of one adapter. They are not stored: backward draws again what forward drew, by the number of the pass.
/// memory  one counter
template <class B>
class dropout_masks {
  using cell = matrix<std::uint64_t, B>;
  double probability_;
  std::uint64_t seed_, key_;
  cell passes_;  // forward passes with dropout so far, 1x1; empty without dropout

 public:
  /// `rank` separates the masks of processes that train one adapter on data of their own; a state may move among them.
  /// errors  value_error if the probability is outside [0, 1), or the rank negative
  dropout_masks(B& be, double probability, std::uint64_t seed, int rank = 0)
      : probability_(probability),
        seed_(seed),
        key_(rank == 0 ? seed : derive({seed, static_cast<std::uint64_t>(rank)}, 5).id) {
    require_value(probability >= 0 && probability < 1, probability, "adapter", "dropout", "in [0, 1)");
    require_value(rank >= 0, rank, "adapter", "dropout_rank", "not negative");
    if (probability > 0) restart(be, 0);
  }
  bool active() const { return probability_ > 0; }  ///< whether anything is dropped
  std::uint64_t seed() const { return seed_; }
  /// Passes so far that drew a mask. Waits for the backend.
  std::uint64_t passes(B& be) const { return passes_.rows() > 0 ? read_scalar(be, passes_.view()) : 0; }
  /// Goes on as after so many passes.
  void restart(B& be, std::uint64_t passes) {
    if (passes_.rows() == 0) passes_ = cell(be, 1, 1);
    be.copy(col_major(&passes, 1, 1), passes_.view());
    be.synchronize();
  }
  /// Counts a new pass and writes its number.
  void count(B& be, cell& pass) {
    if (pass.rows() == 0) pass = cell(be, 1, 1);
    be.for_each(1, 1, detail::next_pass<decltype(passes_.view())>{passes_.view(), pass.view()});
  }
  /// out = beta*out + mask*x/(1-p), with the mask of that pass.
  template <class X, class D>
  void apply(B& be, X x, double beta, D out, cell const& pass) const {
    using C = compute_t<typename D::value_type>;
    be.for_each((out.rows + 3) / 4, out.cols,
                detail::dropout<X, D, decltype(pass.view())>{
                    x, out, static_cast<C>(beta), static_cast<C>(1 / (1 - probability_)),
                    static_cast<std::uint32_t>(probability_ * 4294967296.0), key_, pass.view()});
  }
  template <class C>
  void visit_state(C& c) {
    c.same("probability", probability_);
    c.same("seed", seed_);
    c.optional("passes", passes_, 1, 1);
  }
};

}  // namespace loraga
