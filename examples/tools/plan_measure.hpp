#pragma once
#include <chrono>
#include <loraga/cpu.hpp>

#include "plan_settings.hpp"

// How fast this machine's CPU is at what the library does, in about a second.

namespace tools::plan {

/// Seconds of work() at its fastest, of several within `budget` seconds.
template <class F>
double best_seconds(double budget, F const& work) {
  using clock = std::chrono::steady_clock;
  auto const since = [](clock::time_point t) { return std::chrono::duration<double>(clock::now() - t).count(); };
  auto const began = clock::now();
  double best = 1e30;
  work();  // memory is taken and threads start
  do {
    auto const now = clock::now();
    work();
    best = std::min(best, since(now));
  } while (since(began) < budget);
  return best;
}

/// Puts measured rates in place of assumed ones. `m` keeps its network.
inline void measure(cpu& be, machine& m) {
  index_t const side = 1024, tokens = 512, l = 40, n = 4096;
  auto const filled = [&](index_t rows, index_t cols) {
    matrix<float, cpu> a(be, rows, cols);
    fill_normal(be, a.view(), {static_cast<std::uint64_t>(rows), 1}, 1.0);
    return a;
  };
  {
    auto const a = filled(side, tokens), b = filled(side, tokens);
    matrix<float, cpu> c(be, side, side);
    double const t = best_seconds(0.3, [&] { be.gemm(1.0, a.view(), b.view().transposed(), 0.0, c.view()); });
    m.flops = 2.0 * side * side * tokens / t;
  }
  auto const x = filled(n, tokens), start = filled(n, l);
  matrix<float, cpu> inner(be, tokens, l), y(be, n, l);
  double const thin = best_seconds(0.2, [&] {
    be.gemm(1.0, x.view().transposed(), start.view(), 0.0, inner.view());
    be.gemm(1.0, x.view(), inner.view(), 0.0, y.view());
  });
  m.thin_flops = 4.0 * n * tokens * l / thin;
  slab<double, cpu> gram(be, 1, l, l), values(be, 1, l, 1);
  double const in_double = best_seconds(0.1, [&] { be.gram_batched(slab_view(y.view()), gram.view()); });
  m.double_flops = 2.0 * n * l * l / in_double;
  slab<int, cpu> flag(be, 1, 1, 1);
  fill(be, flag.view()[0], 0);
  double const eigen = best_seconds(0.1, [&] {
    be.gram_batched(slab_view(y.view()), gram.view());
    be.eigh_batched(gram.view(), l, values.view(), flag.view());
  });
  m.small_flops = 10.0 * l * l * l / std::max(eigen - in_double, 1e-7);
  auto const from = filled(n, n / 2);
  matrix<float, cpu> to(be, n, n / 2);
  double const moved = best_seconds(0.2, [&] { be.copy(from.view(), to.view()); });
  m.memory_bandwidth = 2.0 * 4 * n * (n / 2) / moved;
  m.bus_bandwidth = m.memory_bandwidth;
}

}  // namespace tools::plan
