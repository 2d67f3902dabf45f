#pragma once
#include <loraga/svd/automatic.hpp>

#include "plan_settings.hpp"

// Operations of the library's algorithms on one layer, product by product as the headers have them. A product takes
// the longer of its arithmetic and its memory.

namespace tools::plan {

/// A sum of work on one rank.
class work {
  machine const* machine_;

  static double of(index_t n) { return static_cast<double>(n); }
  void take(double seconds_of_arithmetic, double bytes) {
    seconds += std::max(seconds_of_arithmetic, bytes / machine_->memory_bandwidth);
  }

 public:
  double products = 0;  ///< operations of products in float
  double grams = 0;     ///< of Gram matrices, in double
  double small = 0;     ///< of factorisations of small matrices
  double seconds = 0;

  explicit work(machine const& m) : machine_(&m) {}
  double flop() const { return products + grams + small; }
  work& operator+=(work const& other) { return add(other, 1); }
  work& add(work const& other, double times) {
    products += times * other.products, grams += times * other.grams, small += times * other.small;
    seconds += times * other.seconds;
    return *this;
  }

  /// rows x depth times depth x cols
  void product(index_t rows, index_t cols, index_t depth) {
    double const operations = 2 * of(rows) * of(cols) * of(depth);
    double const bytes = 4 * (of(rows) * of(cols) + of(rows) * of(depth) + of(depth) * of(cols));
    products += operations;
    take(operations / (std::min({rows, cols, depth}) <= 128 ? machine_->thin() : machine_->flops), bytes);
  }
  /// YT*Y in double
  void gram(index_t rows, index_t cols) {
    double const operations = 2 * of(rows) * of(cols) * of(cols);
    grams += operations;
    take(operations / machine_->in_double(), 4 * of(rows) * of(cols));
  }
  /// A Cholesky factor and its inverse.
  void cholesky(index_t n) { solve(2.0 / 3 * of(n) * of(n) * of(n)); }
  /// Eigenvalues and vectors.
  void eigen(index_t n) { solve(10 * of(n) * of(n) * of(n)); }
  void solve(double operations) {
    small += operations;
    seconds += operations / machine_->small_flops;
  }
  /// Numbers that are read or written, four bytes each.
  void pass(double numbers) { seconds += 4 * numbers / machine_->memory_bandwidth; }
  /// Bytes between device and host.
  void bus(double bytes) { seconds += bytes / machine_->bus_bandwidth; }

  /// cholesky_qr
  void orthonormal_pass(index_t rows, index_t cols) {
    gram(rows, cols);
    cholesky(cols);
    product(rows, cols, cols);
  }
  /// rayleigh_ritz from a Gram matrix of l columns, without what brings the left vectors; k triplets
  void rayleigh_ritz(index_t in, index_t l, index_t k) {
    eigen(l);
    product(in, k, l);
    orthonormal_pass(in, k);
  }
  /// check_triplets
  void check(index_t out, index_t in, index_t k) {
    gram(out, k);
    gram(in, k);
  }
};

/// incremental_gradient::add_outer, or what a rank does of a streamed_gradient's update.
inline work incremental_update(machine const& m, linear_layer const& layer, settings const& s, index_t tokens,
                               bool any) {
  work all(m);
  index_t const out = layer.out, in = layer.in, w = width_of(layer, s);
  index_t const l = std::min(columns_of(layer, s), any ? w + tokens : std::max(w, tokens)), fresh = any ? l - w : l;
  int const steps = any ? s.power_steps : std::max(1, s.power_steps);
  auto const apply = [&](index_t to, index_t from) {  // dY*(XT*x) + U*S*(VT*x), or transposed
    all.product(tokens, l, from);
    all.product(to, l, tokens);
    if (!any) return;
    all.product(w, l, from);
    all.product(to, l, w);
  };
  bool const from_left = steps % 2 == 1;
  index_t const from = from_left ? out : in, to = from_left ? in : out;
  // a random matrix; tokens' weights; what came before, which needs no product; the energy of what comes out
  all.pass(static_cast<double>(from * fresh + to * tokens + to * w * (any ? 2 : 0) + to * l));
  all.product(tokens, l, from);
  all.product(to, l, tokens);
  if (from_left) {
    all.orthonormal_pass(in, l);
    apply(out, in);
  }
  for (int i = 0; i < steps / 2; ++i) {
    all.orthonormal_pass(out, l);
    apply(in, out);
    apply(out, in);
  }
  all.orthonormal_pass(out, l);  // once more only where columns are nearly dependent
  apply(in, out);
  all.gram(in, l);
  all.eigen(l);
  all.product(out, w, l);
  all.product(in, w, l);
  all.check(out, in, w);
  if (any) {
    index_t const k = std::min(2 * s.rank, w);  // by how much it turned
    all.product(k, k, out);
    all.product(k, k, in);
  }
  all.pass(static_cast<double>(2 * w * (out + in)));
  return all;
}

/// incremental_gradient::merge of another one: its triplets come as a micro-batch of `width` tokens.
inline work merge(machine const& m, linear_layer const& layer, settings const& s) {
  work all(m);
  all.pass(static_cast<double>(2 * layer.out * width_of(layer, s)));
  return all += incremental_update(m, layer, s, width_of(layer, s), true);
}

/// gram::top
inline work exact_triplets(machine const& m, index_t rows, index_t cols, index_t k) {
  work all(m);
  index_t const small = std::min(rows, cols), large = std::max(rows, cols);
  all.pass(static_cast<double>(small * large));
  all.gram(large, small);
  all.rayleigh_ritz(large, small, k);  // its product: k columns of a matrix small x large
  all.check(rows, cols, k);
  return all;
}

/// automatic_svd::top of a dense matrix.
inline work triplets(machine const& m, index_t rows, index_t cols, index_t k) {
  auto const choice = automatic_svd{}.choose(rows, cols, k);
  index_t const small = std::min(rows, cols), large = std::max(rows, cols);
  index_t const b = choice.krylov.block ? choice.krylov.block : k, depth = choice.krylov.depth;
  if (choice.exact || b * depth >= small) return exact_triplets(m, rows, cols, k);
  work all(m);
  all.pass(static_cast<double>(small * large + large * b));  // its energy; a random matrix
  for (index_t j = 0; j < depth; ++j) {
    all.product(small, b, large);
    for (int round = 0; round < 2; ++round) {
      if (j > 0) {  // away from the basis so far
        all.product(j * b, b, small);
        all.product(small, b, j * b);
      }
      all.orthonormal_pass(small, b);
    }
    all.product(large, b, small);
  }
  all.gram(large, b * depth);
  all.product(small, k, b * depth);
  all.rayleigh_ritz(large, b * depth, k);
  all.check(rows, cols, k);
  return all;
}
/// Passes over a matrix that automatic_svd takes: of a block's columns each, or of one Gram matrix and one product.
inline int svd_passes(index_t rows, index_t cols, index_t k) {
  auto const choice = automatic_svd{}.choose(rows, cols, k);
  index_t const b = choice.krylov.block ? choice.krylov.block : k;
  if (choice.exact || b * choice.krylov.depth >= std::min(rows, cols)) return 2;
  return static_cast<int>(2 * choice.krylov.depth);
}
/// Bytes that a Gram matrix is made of: pieces of rows in double, as the CPU has them.
inline double gram_scratch(index_t rows, index_t cols) {
  double const pieces = static_cast<double>(std::clamp<index_t>(rows / 512, 1, 16)), n = static_cast<double>(cols);
  return 8 * (pieces * n * (512 + n) + n * n);
}
/// Bytes of scratch that automatic_svd takes for one matrix.
inline double svd_scratch(index_t rows, index_t cols, index_t k) {
  auto const choice = automatic_svd{}.choose(rows, cols, k);
  index_t const small = std::min(rows, cols), large = std::max(rows, cols);
  index_t const b = choice.krylov.block ? choice.krylov.block : k, all = b * choice.krylov.depth;
  bool const exact = choice.exact || all >= small;
  double const ritz = 4.0 * static_cast<double>(k) * static_cast<double>(large) + gram_scratch(large, k);
  double const last = std::max(ritz, gram_scratch(large, exact ? small : all));
  if (exact) return 8.0 * static_cast<double>(small) * static_cast<double>(small) + last;
  double const blocks = static_cast<double>(all * (small + large) + b * (2 * small + large));
  return 4 * blocks + 8.0 * static_cast<double>(all) * static_cast<double>(all) + last;
}

}  // namespace tools::plan
