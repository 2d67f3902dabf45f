#pragma once
#include <loraga/init/kaiming.hpp>
#include <loraga/init/split_triplets.hpp>
#include <loraga/linalg/orthonormal.hpp>
#include <loraga/linalg/reductions.hpp>
#include <loraga/start/needs.hpp>

namespace loraga {

/// GoRA: A is random, and B makes the model start with a step of gradient descent. The step is projected on A's rows
/// and stretched to the size of the whole step. Use it with rank_stable_scaling and no_anchor, which is the method: W
/// stays as it is, and the model starts changed.
/// math    A as kaiming_init; B = -xi*G*AT*(A*AT)^-1, xi = step*sqrt(in/r)/s, so that
///         s*B*A = -step*sqrt(in/r)*G*P, P the projector on A's rows, on average as large as -step*G
/// loss    for r = in the start is -step*G up to rounding, which a square A makes large: in bf16 some per cent
/// units   step is a learning rate of gradient descent; the paper's gamma
/// errors  shape_error if r > in; value_error if step <= 0 or s <= 0; numeric_error from `initialise` if B would be 0
/// cost    2*r*out*in + 4*r^2*in operations; waits once for an r x r factorisation
/// memory  3*in*r numbers of scratch
/// source  arXiv:2502.12171; ranks per layer: ranks_by_importance
/// Layers of a range draw different numbers. Adapters started one by one do where their seeds (lora_options) differ.
struct gora_init {
  double step = 5e-2;  ///< of gradient descent
  std::uint64_t seed = 0;

  static constexpr start_kind starts = start_kind::ahead;
  whole_gradient needs(layer_facts const&) const { return {}; }
  void check(layer_facts const& of) const {
    require_rank(of.rank, of.in, of.in, "gora_init");
    require_value(step > 0 && is_finite(step), step, "gora_init", "step", "a positive finite number");
    require_value(of.scale > 0, of.scale, "gora_init", "scaling s", "above 0, because the start divides by it");
  }

  template <Backend B, ViewIn<typename B::space> G, MutableViewIn<typename B::space> V>
  void make(B& be, layer_facts const& at, G gradient, V a, V b) const {
    [[maybe_unused]] auto const precise = be.full_precision();
    kaiming_init{seed}.make(be, at, a, b);
    index_t const r = a.rows, in = a.cols;
    scratch<B> temporary(be);
    auto const inverse = temporary.template matrix<compute_t<typename V::value_type>>(in, r);
    pseudo_inverse(be, a, inverse);
    double const xi = step * std::sqrt(static_cast<double>(in) / static_cast<double>(r)) / at.scale;
    be.gemm(-xi, gradient, inverse, 0.0, b);
  }

 private:
  /// to = AT*(A*AT)^-1, in double until the end.  errors numeric_error if A's rows are dependent
  template <class B, class V, class To>
  static void pseudo_inverse(B& be, V a, To to) {
    index_t const r = a.rows;
    scratch<B> temporary(be);
    auto const rows = temporary.template slab<double>(1, a.cols, r);
    auto const basis = temporary.template slab<double>(1, a.cols, r), root = temporary.template slab<double>(1, r, r);
    auto const flag = temporary.template slab<int>(1, 1, 1);
    fill(be, flag[0], 0);
    convert(be, a.transposed(), rows[0]);
    be.gram_batched(rows, root);
    be.cholesky_inverse_batched(root, first_pass(r).relative, 0.0, flag);
    be.gemm(1.0, rows[0], root[0], 0.0, basis[0]);
    be.gemm(1.0, basis[0], root[0].transposed(), 0.0, rows[0]);
    convert(be, rows[0], to);
    if (read_scalar(be, flag[0]) != 0) raise<numeric_error>("gora_init", "A", "dependent rows", "independent ones");
  }
};

/// How much a layer's W matters to the loss, as GoRA measures it for ranks_by_importance. Waits for the backend.
/// math    mean_ij |W_ij*G_ij|
/// errors  shape_error; state_error for an empty accumulator; numeric_error if it is not finite
/// cost    one pass over W and G, out*in numbers of memory
/// source  arXiv:2502.12171
template <Backend B, ViewIn<typename B::space> W, ReadableGradient<B> G>
double gora_importance(B& be, W w, G const& gradient) {
  require_shape(w, gradient.rows(), gradient.cols(), "gora_importance", "W");
  require_matrix(w, "gora_importance", "W");
  matrix<typename G::value_type, B> g(be, w.rows, w.cols);
  scratch<B> temporary(be);
  auto const cell = temporary.template matrix<double>(1, 1);
  gradient.estimate(be, g.view());
  abs_dot(be, w, g.view(), cell);
  double const sum = read_scalar(be, cell);
  if (!is_finite(sum)) raise<numeric_error>("gora_importance", "W or gradient", "not finite", "finite numbers");
  return sum / static_cast<double>(w.rows * w.cols);
}

}  // namespace loraga
