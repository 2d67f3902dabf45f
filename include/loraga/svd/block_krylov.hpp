#pragma once
#include <loraga/svd/subspace.hpp>

namespace loraga {

/// Randomised block Krylov iteration with one orthonormal basis (of the smaller side) and its image kept explicitly.
/// math    basis of span{Y, M*Y, ..., M^(depth-1)*Y}, M = A*AT, Y = A*Omega, fully reorthogonalised; Rayleigh-Ritz
/// Reaches subspace iteration's accuracy with about the square root of its products. A basis as large as the smaller
/// side spans everything; the answer is then exact and `gram` computes it.
/// errors  shape_error for k outside 1..min(m, n) or block*depth below k; numeric faults are flags of the result
/// cost    2*depth passes over A, `block` columns each; basis and image: block*depth*(m + n) numbers
/// source  Musco, Musco, NeurIPS 2015; small blocks: Meyer, Musco, Musco, arXiv:2305.02535
struct block_krylov {
  index_t block = 0;  ///< columns per step; 0 means k
  index_t depth = 4;  ///< steps
  std::uint64_t seed = 0;

  index_t width(index_t k) const { return (block ? block : k) * depth; }

  template <Backend B, class T>
  auto top(B& be, view_list<T, typename B::space> a, index_t k) const {
    require_value(depth >= 1, static_cast<double>(depth), "block_krylov::top", "depth", "at least 1");
    require_value(block >= 0, static_cast<double>(block), "block_krylov::top", "block", "at least 0");
    if (a.count > 0 && k >= 1 && width(k) >= std::min(a.rows, a.cols)) return gram{}.top(be, a, k);
    if (width(k) < k)
      raise<shape_error>("block_krylov::top", "block*depth", std::to_string(width(k)),
                         "at least k = " + std::to_string(k));
    return factor_batch(be, *this, a, k, {seed, 0}, "block_krylov::top");
  }

  template <Backend B, class Op, class T>
  void run(B& be, Op const& op, triplet_slabs<T, typename B::space> out, slab_view<int, typename B::space> flags,
           caution how) const {
    if (op.rows() > op.cols()) return run(be, op.transposed(), out.transposed(), flags, how);
    scratch<B> temporary(be);
    index_t const b = block ? block : out.s.rows, m = op.rows(), n = op.cols(), count = op.count();
    auto const basis = temporary.template slab<T>(count, m, b * depth),
               image = temporary.template slab<T>(count, n, b * depth);
    auto const y = temporary.template slab<T>(count, m, b), t = temporary.template slab<T>(count, m, b);
    auto const omega = temporary.template slab<T>(1, n, b);
    fill_signs(be, omega[0], {seed, 0});
    op.apply(be, subspace::repeated(omega, count), y);
    for (index_t j = 0; j < depth; ++j) {
      random_stream const stream{seed, static_cast<std::uint64_t>(j) + 1};
      auto const before = basis.columns(0, j * b), q = basis.columns(j * b, b), z = image.columns(j * b, b);
      // Twice: the first round leaves rounding of the size of y, which its normalisation then blows up.
      remove(be, before, y);
      orthonormal_pass(be, y, t, first_pass(b), how, stream, flags);
      remove(be, before, t);
      orthonormal_pass(be, t, y, repeated_pass(), how, stream, flags);
      // Where nothing but rounding was left, that lies anywhere, also in the old basis: clean until it does not.
      if (how == caution::safe)
        for (int round = 0; round < 8 && overlaps(be, before, y); ++round) {
          remove(be, before, y);
          orthonormal_pass(be, y, t, repeated_pass(), how, stream, flags);
          be.copy(t.side_by_side(), y.side_by_side());
        }
      for (index_t i = 0; i < count; ++i) be.copy(y[i], q[i]);
      op.apply_transposed(be, y, z);
      if (j + 1 < depth) op.apply(be, z, y);
    }
    auto const s = temporary.template slab<double>(count, b * depth, b * depth);
    be.gram_batched(image, s);
    rayleigh_ritz(
        be, s, out, how, {seed, 0}, flags,
        [&](auto const& w, auto const& u) { be.gemm_batched(1.0, basis, w, 0.0, u); },
        [&](auto const& w, auto const& v) { be.gemm_batched(1.0, image, w, 0.0, v); });
  }

 private:
  /// y -= q*(qT*y)
  template <Backend B, class T>
  static void remove(B& be, slab_view<T, typename B::space> q, slab_view<T, typename B::space> y) {
    if (q.cols == 0) return;
    scratch<B> temporary(be);
    auto const c = temporary.template slab<T>(q.count, q.cols, y.cols);
    be.gemm_batched(1.0, q.transposed(), y, 0.0, c);
    be.gemm_batched(-1.0, q, c, 1.0, y);
  }

  /// Whether qT*y is more than rounding, for a batch of one. Waits for the backend.
  template <Backend B, class T>
  static bool overlaps(B& be, slab_view<T, typename B::space> q, slab_view<T, typename B::space> y) {
    if (q.cols == 0) return false;
    scratch<B> temporary(be);
    auto const c = temporary.template matrix<T>(q.cols, y.cols);
    auto const most = temporary.template matrix<double>(1, 1);
    be.gemm(1.0, q[0].transposed(), y[0], 0.0, c);
    max_abs(be, c, most);
    return read_scalar(be, most) > 20 * static_cast<double>(std::numeric_limits<T>::epsilon());
  }
};

}  // namespace loraga
