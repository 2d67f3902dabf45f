#pragma once
#include <loraga/svd/subspace.hpp>

namespace loraga {

namespace detail {

/// Raises svd_ill_conditioned where `block` of k > block values in a row are nearly the same, and others follow: of a
/// singular value that is repeated more often than that, block Krylov iteration finds no more.
template <class S, class F>
struct flag_repeated_values {
  S sigma;  // k x count
  F flags;  // 1 x count
  index_t block;
  LORAGA_HD void operator()(index_t i, index_t b) const {
    if (sigma(i, b) > 0 && sigma(i + block - 1, b) >= 0.99 * sigma(i, b)) flags(0, b) |= svd_ill_conditioned;
  }
};

}  // namespace detail

/// Randomised block Krylov iteration. One orthonormal basis of the smaller side and its image are kept explicitly.
/// It reaches subspace iteration's accuracy with about the square root of its products. A basis as large as the smaller
/// side spans everything; the answer is then exact and `gram` computes it.
/// The method starts again with block = k after a breakdown, and where block < k and a singular value is repeated more
/// than `block` times.
/// math    basis of span{Y, M*Y, ..., M^(depth-1)*Y}, M = A*AT, Y = A*Omega, fully reorthogonalised; Rayleigh-Ritz
/// loss    by block, depth and spectrum: with the defaults up to 1e-1 of the optimal energy, for k <= 2
/// errors  shape_error for k outside 1..min(m, n) or block*depth below k; numeric faults are flags of the result
/// cost    2*depth passes over A, `block` columns each; basis and image: block*depth*(m + n) numbers
/// source  Musco, Musco, NeurIPS 2015; small blocks: Meyer, Musco, Musco, arXiv:2305.02535
struct block_krylov {
  index_t block = 0;  ///< columns per step; 0 means k
  index_t depth = 4;  ///< steps
  std::uint64_t seed = 0;

  index_t width(index_t k) const { return (block ? block : k) * depth; }

  static constexpr bool takes_noise = true;
  /// Numbers of scratch for each matrix: basis, image, blocks; Gram matrices in double.
  index_t scratch_numbers(index_t rows, index_t cols, index_t k) const {
    index_t const b = std::max(block, k), l = width(k);
    return (rows + cols) * (l + b) + 2 * std::min(rows, cols) * b + 4 * l * (l + b);
  }

  /// With `unread`, flags are left there (see unread_flags).
  template <Backend B, class T, class... Unread>
  auto top(B& be, view_list<T, typename B::space> a, index_t k, Unread&... unread) const {
    require_value(depth >= 1, static_cast<double>(depth), "block_krylov::top", "depth", "at least 1");
    require_value(block >= 0, static_cast<double>(block), "block_krylov::top", "block", "at least 0");
    if (a.count > 0 && k >= 1 && width(k) >= std::min(a.rows, a.cols)) return gram{}.top(be, a, k, unread...);
    if (width(k) < k)
      raise<shape_error>("block_krylov::top", "block*depth", std::to_string(width(k)),
                         "at least k = " + std::to_string(k));
    return factor_batch(be, *this, a, k, {seed, 0}, "block_krylov::top", unread...);
  }

  /// One attempt at the triplets of an operator, for factor_batch.
  template <Backend B, class Op, class T>
  void run(B& be, Op const& op, triplet_slabs<T, typename B::space> out, slab_view<int, typename B::space> flags,
           caution how) const {
    if (op.rows() > op.cols()) return run(be, op.transposed(), out.transposed(), flags, how);
    index_t const k = out.s.rows, m = op.rows(), n = op.cols(), count = op.count();
    index_t const b = how != caution::optimistic ? std::max(block, k) : block ? block : k;
    if (b * depth >= m) return gram{}.run(be, op, out, flags, how);
    scratch<B> temporary(be);
    auto const basis = temporary.template slab<T>(count, m, b * depth),
               image = temporary.template slab<T>(count, n, b * depth);
    auto const y = temporary.template slab<T>(count, m, b), t = temporary.template slab<T>(count, m, b);
    auto const omega = temporary.template slab<T>(1, n, b);
    fill_test_matrix(be, omega[0], {seed, 0});
    subspace::pass(be, op, subspace::repeated(omega, count), y);
    for (index_t j = 0; j < depth; ++j) {
      auto const q = basis.columns(j * b, b), z = image.columns(j * b, b);
      extend(be, basis, j * b, y, t, how, {seed, static_cast<std::uint64_t>(j) + 1}, flags);
      op.apply_transposed(be, q, z);  // never rounded: the answer is made of the image
      if (j + 1 < depth) subspace::pass(be, op, z, y);
    }
    auto const s = temporary.template slab<double>(count, b * depth, b * depth);
    be.gram_batched(image, s);
    rayleigh_ritz(
        be, s, out, how, {seed, 0}, flags,
        [&](auto const& w, auto const& u) { be.gemm_batched(1.0, basis, w, 0.0, u); },
        [&](auto const& w, auto const& v) { be.gemm_batched(1.0, image, w, 0.0, v); });
    if (b >= k) return;
    using V = matrix_view<T, typename B::space>;
    using I = matrix_view<int, typename B::space>;
    be.for_each(k - b, count, detail::flag_repeated_values<V, I>{out.s.side_by_side(), flags.side_by_side(), b});
  }

 private:
  /// The columns of `basis` from `first` on become y, made orthonormal to those before them. t is scratch.
  template <Backend B, class T>
  static void extend(B& be, slab_view<T, typename B::space> basis, index_t first, slab_view<T, typename B::space> y,
                     slab_view<T, typename B::space> t, caution how, random_stream stream,
                     slab_view<int, typename B::space> flags) {
    auto const before = basis.columns(0, first), q = basis.columns(first, y.cols);
    if (how == caution::safe) {
      for (index_t i = 0; i < y.count; ++i) {
        be.copy(y[i], q[i]);
        orthonormalize_columns(be, basis[i].columns(0, first + y.cols), first, stream);
      }
      return;
    }
    if (how == caution::noisy) add_noise(be, y, derive(stream, 1));
    // Twice: the first round leaves rounding of the size of y, which its normalisation then blows up.
    remove(be, before, y);
    orthonormal_pass(be, y, t, first_pass(y.cols), how, stream, flags);
    remove(be, before, t);
    orthonormal_pass(be, t, q, repeated_pass(), how, stream, flags);
  }

  /// y -= q*(qT*y)
  template <Backend B, class T>
  static void remove(B& be, slab_view<T, typename B::space> q, slab_view<T, typename B::space> y) {
    if (q.cols == 0) return;
    scratch<B> temporary(be);
    auto const c = temporary.template slab<T>(q.count, q.cols, y.cols);
    be.gemm_batched(1.0, q.transposed(), y, 0.0, c);
    be.gemm_batched(-1.0, q, c, 1.0, y);
  }
};

}  // namespace loraga
