#pragma once
// Matrices whose singular values are known exactly, dense and without a preferred direction; baseline.py makes the
// same.
#include "run.cuh"

namespace perf {

namespace detail {

struct cosine {  // DCT-II: rows are orthonormal
  loraga::matrix_view<float, loraga::device_space> to;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const n = static_cast<double>(to.cols), angle = 3.14159265358979323846 * static_cast<double>(i) / n;
    to(i, j) = static_cast<float>(sqrt((i == 0 ? 1.0 : 2.0) / n) * cos(angle * (static_cast<double>(j) + 0.5)));
  }
};
struct root_decay {  // row i times (i + 1)^-1/2
  loraga::matrix_view<float, loraga::device_space> m;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    m(i, j) /= static_cast<float>(sqrt(static_cast<double>(i + 1)));
  }
};
template <class From, class Signs, class To>
struct with_signs {
  From from;
  Signs left, right;
  To to;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    to(i, j) = (left(i, 0) < 0) == (right(j, 0) < 0) ? from(i, j) : -from(i, j);
  }
};

}  // namespace detail

/// G = CT*diag((i+1)^-1/2)*C' of one shape, C and C' cosine transforms: the flattest spectrum of bench/cpu.
inline loraga::matrix<float, backend> cosine_matrix(backend& be, index_t out, index_t in) {
  index_t const k = std::min(out, in);
  loraga::matrix<float, backend> left(be, k, out), right(be, k, in), g(be, out, in);
  be.for_each(k, out, detail::cosine{left.view()});
  be.for_each(k, in, detail::cosine{right.view()});
  be.for_each(k, in, detail::root_decay{right.view()});
  be.gemm(1.0, left.view().transposed(), right.view(), 0.0, g.view());
  return g;
}
/// to = the same with random signs of rows and columns.
template <class To>
void with_random_signs(backend& be, loraga::matrix<float, backend> const& g, To to, std::uint64_t seed) {
  loraga::matrix<float, backend> left(be, g.rows(), 1), right(be, g.cols(), 1);
  loraga::fill_test_matrix(be, left.view(), {seed, 1});
  loraga::fill_test_matrix(be, right.view(), {seed, 2});
  auto const from = g.view();
  be.for_each(to.rows, to.cols,
              detail::with_signs<decltype(from), decltype(left.view()), To>{from, left.view(), right.view(), to});
}
/// The energy of its k leading triplets.
inline double leading_energy(index_t k) {
  double sum = 0;
  for (index_t i = 0; i < k; ++i) sum += 1.0 / static_cast<double>(i + 1);
  return sum;
}

/// How much of the optimal energy the answer misses, at worst over the batch, by what U and V really span.
/// math    1 - |UT*G*V|_F^2 / leading energy, and the largest |UT*U - I|, |VT*V - I| entries
struct quality {
  double loss = 0, orthonormal = 0;
};
template <class Result, class Matrices>
quality judge(backend& be, Result& found, Matrices const& g, index_t number) {
  quality q;
  for (index_t b = 0; b < number; ++b) {
    auto const t = found[b];
    index_t const k = t.s.rows;
    loraga::matrix<float, backend> half(be, k, g[b].cols), core(be, k, k);
    be.gemm(1.0, t.u.transposed(), g[b], 0.0, half.view());
    be.gemm(1.0, half.view(), t.v, 0.0, core.view());
    q.loss = std::max(q.loss, 1 - energy_of(be, core.view()) / leading_energy(k));
    view<float> const sides[] = {t.u, t.v};
    for (auto const& w : sides) {
      loraga::matrix<float, backend> square(be, k, k);
      be.gemm(1.0, w.transposed(), w, 0.0, square.view());
      auto const values = loraga::read_all(be, square.view());
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i < k; ++i)
          q.orthonormal = std::max(
              q.orthonormal, std::abs(static_cast<double>(values[static_cast<std::size_t>(i + j * k)]) - (i == j)));
    }
  }
  return q;
}

}  // namespace perf
