#pragma once
#include <loraga/svd/block_krylov.hpp>

namespace loraga {

/// How much of the optimal energy the answer may miss: 1 - captured/optimal at k triplets. The bounds below hold where
/// sigma_16 <= 0.4*sigma_1. In flatter matrices no few directions stand out; there it is up to 0.1 (balanced) and 0.05
/// (tight), for pure noise (bench/results/svd_properties.json).
enum class svd_quality {
  balanced,  ///< at most about 1e-3: changes nothing visible in training
  tight      ///< at most about 1e-4: as good as torch.svd_lowrank(q = 2k, niter = 4)
};

/// What a method's cost is made of.
enum class svd_cost {
  columns,  ///< arithmetic: few columns, as a CPU has it
  passes    ///< reads of the matrix and small kernels: few passes, wide blocks, as a GPU has it
};

/// Chooses a method by shape, number of triplets, and what the backend's cost is made of. To override it, pass another
/// method in its place.
/// loss    see svd_quality; exact where the smaller side is at most 64, or the basis would be as large as half of it
/// errors  as the chosen method's
/// cost    as the chosen method's
struct automatic_svd {
  svd_quality quality = svd_quality::balanced;  ///< how much energy it may miss
  std::uint64_t seed = 0;

  /// A choice: exact through the Gram matrix, block Krylov, or subspace iteration.
  struct plan {
    bool exact;               ///< by `gram`
    block_krylov krylov;      ///< else by this
    bool iterates = false;    ///< or by the next one
    subspace iteration = {};  ///< of few passes
  };
  /// The choice for a shape, to look at or to start from.
  plan choose(index_t rows, index_t cols, index_t k, svd_cost cost = svd_cost::columns) const {
    if (cost == svd_cost::passes) return choose_wide(rows, cols, k);
    index_t const shorter = std::min(rows, cols), longer = std::max(rows, cols);
    index_t const r = (k + 1) / 2;
    bool const tight = quality == svd_quality::tight;
    // A basis of more than half the side costs what the exact answer does, while that is affordable.
    bool const wide = 4 * r >= shorter / 2;
    if (shorter <= 64 || (wide && (shorter <= 1024 || longer >= 2 * shorter))) return {true, {}};
    // Measured on the spectra of bench/cpu; sigma_i = i^-1/2, the flattest, needs most.
    if (r <= 24) return {false, {16, 2 + (std::max<index_t>(r, 5) + 3) / 4 + (tight ? r <= 12 ? 1 : 2 : 0), seed}};
    if (r <= 64) return {false, {r, tight ? 7 : 6, seed}};
    return {false, {r / 2, tight ? 12 : 10, seed}};
  }

  /// With `unread`, flags are left there (see unread_flags).
  template <Backend B, class T, class... Unread>
  auto top(B& be, view_list<T, typename B::space> a, index_t k, Unread&... unread) const {
    auto const choice = choose(a.rows, a.cols, k, detail::runs_ahead<B> ? svd_cost::passes : svd_cost::columns);
    if (choice.exact) return gram{}.top(be, a, k, unread...);
    if (choice.iterates) return choice.iteration.top(be, a, k, unread...);
    return choice.krylov.top(be, a, k, unread...);
  }

 private:
  /// Few passes of wide blocks; the eigenproblem has the block's width.
  plan choose_wide(index_t rows, index_t cols, index_t k) const {
    index_t const shorter = std::min(rows, cols), longer = std::max(rows, cols);
    bool const tight = quality == svd_quality::tight;
    // Measured on the spectra of bench/cuda_passes.
    index_t const width = std::max<index_t>(k <= 64 ? (tight ? 4 : 3) * k : k + k / 2, 32);
    bool const half = 2 * width >= shorter;  // then the exact answer costs no more, while it is affordable
    if (shorter <= 64 || (half && (shorter <= 1024 || longer >= 2 * shorter))) return {true, {}};
    int const iterations = k <= 32 ? 2 : k <= 64 ? (tight ? 3 : 2) : tight ? 6 : 4;
    return {false, {}, true, {width, iterations, seed}};
  }
};

}  // namespace loraga
