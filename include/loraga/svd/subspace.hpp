#pragma once
#include <loraga/svd/gram.hpp>

namespace loraga {

/// Randomised subspace iteration.
/// A width as large as the smaller side spans everything; the answer is then exact and `gram` computes it.
/// math    Y = (A*AT)^iterations * A*Omega, Q = orth(Y), then Rayleigh-Ritz; Omega random by the seed
/// loss    by width, iterations and spectrum: with the defaults up to 2e-1 of the optimal energy, for k <= 2
/// errors  shape_error for k outside 1..min(m, n) or a width below k; numeric faults are flags of the result
/// cost    2 + 2*iterations passes over A, `width` columns each
/// source  Halko, Martinsson, Tropp, SIAM Review 2011, Alg. 4.4; orthonormalised once per pair of passes, which fp32
///         allows because the last pass is taken with an orthonormal Q
struct subspace {
  index_t width = 0;   ///< columns; 0 means 2k
  int iterations = 4;  ///< pairs of passes over A
  std::uint64_t seed = 0;

  /// The columns it takes for k triplets.
  index_t columns(index_t k, index_t small_side) const { return std::min(width ? width : 2 * k, small_side); }

  static constexpr bool takes_noise = true;
  /// Numbers of scratch for each matrix: blocks, raw V; Gram matrices in double.
  index_t scratch_numbers(index_t rows, index_t cols, index_t k) const {
    index_t const l = columns(k, std::min(rows, cols));
    return (rows + cols) * (l + k) + std::min(rows, cols) * l + 4 * l * (l + k);
  }

  /// With `unread`, flags are left there (see unread_flags).
  template <Backend B, class T, class... Unread>
  auto top(B& be, view_list<T, typename B::space> a, index_t k, Unread&... unread) const {
    if (width != 0 && width < k)
      raise<shape_error>("subspace::top", "width", std::to_string(width), "at least k = " + std::to_string(k));
    require_value(iterations >= 0, iterations, "subspace::top", "iterations", "at least 0");
    if (a.count > 0 && columns(k, std::min(a.rows, a.cols)) == std::min(a.rows, a.cols))
      return gram{}.top(be, a, k, unread...);
    return factor_batch(be, *this, a, k, {seed, 0}, "subspace::top", unread...);
  }

  /// One attempt at the triplets of an operator, for factor_batch.
  template <Backend B, class Op, class T>
  void run(B& be, Op const& op, triplet_slabs<T, typename B::space> out, slab_view<int, typename B::space> flags,
           caution how) const {
    if (op.rows() > op.cols()) return run(be, op.transposed(), out.transposed(), flags, how);
    scratch<B> temporary(be);
    index_t const l = columns(out.s.rows, op.rows()), m = op.rows(), n = op.cols(), count = op.count();
    auto const y = temporary.template slab<T>(count, m, l), q = temporary.template slab<T>(count, m, l);
    auto const z = temporary.template slab<T>(count, n, l);
    auto const omega = temporary.template slab<T>(1, n, l);
    fill_test_matrix(be, omega[0], {seed, 0});
    pass(be, op, repeated(omega, count), y);
    for (int i = 0; i < iterations; ++i) {
      if (how == caution::noisy) add_noise(be, y, {seed, 3});
      orthonormal_pass(be, y, q, first_pass(l), how, {seed, 1}, flags);
      pass(be, op.transposed(), q, z);
      pass(be, op, z, y);
    }
    if (how == caution::noisy) add_noise(be, y, {seed, 3});
    project(be, op, y, q, z, out, how, {seed, 2}, flags);
  }

  /// The triplets of `op` within span(y): Q = orth(y), Z = AT*Q, Rayleigh-Ritz. y, q, z are scratch.
  template <Backend B, class Op, class T>
  static void project(B& be, Op const& op, slab_view<T, typename B::space> y, slab_view<T, typename B::space> q,
                      slab_view<T, typename B::space> z, triplet_slabs<T, typename B::space> out, caution how,
                      random_stream stream, slab_view<int, typename B::space> flags) {
    orthonormal_twice(be, y, q, how, stream, flags);
    op.apply_transposed(be, y, z);
    solve(be, y, z, out, how, derive(stream, 1), flags);
  }
  /// y = orth(y), twice, so that rounding is no part of it; q is scratch.
  template <Backend B, class T>
  static void orthonormal_twice(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> q,
                                caution how, random_stream stream, slab_view<int, typename B::space> flags) {
    orthonormal_pass(be, y, q, first_pass(y.cols), how, stream, flags);
    orthonormal_pass(be, q, y, repeated_pass(), how, stream, flags);
  }
  /// The triplets of A within the span of an orthonormal y, from Z = AT*y.
  template <Backend B, class T>
  static void solve(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> z,
                    triplet_slabs<T, typename B::space> out, caution how, random_stream stream,
                    slab_view<int, typename B::space> flags) {
    within(be, y, z, [&](auto const& s, auto const& left, auto const& right) {
      rayleigh_ritz(be, s, out, how, stream, flags, left, right);
    });
  }
  /// The same with V as it comes: see raw_ritz.
  template <Backend B, class T>
  static void solve_raw(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> z,
                        triplet_slabs<T, typename B::space> out, random_stream stream,
                        slab_view<int, typename B::space> flags) {
    within(be, y, z, [&](auto const& s, auto const& left, auto const& right) {
      raw_ritz(be, s, out, stream, flags, left, right);
    });
  }

  /// y = A*x on the way to a basis, which rounding of operands does not disturb.
  template <Backend B, class Op, class X, class Y>
  static void pass(B& be, Op const& op, X const& x, Y const& y) {
    if (op.rows() % 4 != 0 || op.cols() % 4 != 0) return op.apply(be, x, y);  // tensor cores take columns of 16 bytes
    [[maybe_unused]] auto const rough = detail::pass_precision(be);
    op.apply(be, x, y);
  }

  /// One matrix shown `count` times.
  template <class T, class Space>
  static slab_view<T, Space> repeated(slab_view<T, Space> one, index_t count) {
    return {one.data, count, one.rows, one.cols, one.row_stride, one.col_stride, 0};
  }

 private:
  /// ritz(gram, left, right) with what rayleigh_ritz takes.
  template <Backend B, class T, class Ritz>
  static void within(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> z, Ritz const& ritz) {
    scratch<B> temporary(be);
    auto const s = temporary.template slab<double>(y.count, y.cols, y.cols);
    be.gram_batched(z, s);
    ritz(
        s, [&](auto const& w, auto const& u) { be.gemm_batched(1.0, y, w, 0.0, u); },
        [&](auto const& w, auto const& v) { be.gemm_batched(1.0, z, w, 0.0, v); });
  }
};

}  // namespace loraga
