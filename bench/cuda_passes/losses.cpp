#include <algorithm>
#include <cmath>
#include <cstdio>
#include <loraga/svd/automatic.hpp>
#include <string>

#include "matrices.hpp"
#include "rounding.hpp"

// What plans of few, wide passes miss of the optimal energy, with float operands of the passes rounded to TF32 and
// without. Arguments: n, ranks... Exit code 3 where a plan that automatic_svd has for a GPU misses its gate.

namespace {

using loraga::block_krylov;
using loraga::subspace;
using passes::host_space;
using passes::index_t;

double energy_of(passes::numbers const& a, index_t n, index_t k, bool rounds, auto const& svd) {
  passes::rounding_cpu be(rounds);
  auto const one = loraga::col_major(a.data(), n, n);
  auto const found = svd.top(be, loraga::view_list(&one, 1), k);
  double sum = 0;
  for (index_t i = 0; i < k; ++i) sum += std::pow(static_cast<double>(found[0].s(i, 0)), 2);
  if (found.flags[0] != 0) std::fprintf(stderr, "flags %d\n", found.flags[0]);
  return sum;
}

struct losses {
  double fp32, tf32;
};

/// One matrix and rank: prints a row per plan.
class comparison {
  passes::numbers const& a_;
  char const* kind_;
  index_t n_, r_;
  double exact_;
  inline static bool first_row_ = true;

 public:
  comparison(passes::numbers const& a, char const* kind, index_t n, index_t r)
      : a_(a),
        kind_(kind),
        n_(n),
        r_(r),
        exact_(energy_of(a, n, 2 * r, false, block_krylov{2 * r, r < 50 ? 14 : 7, 99})) {}
  losses look(std::string const& plan, std::string const& is, auto const& svd) const {
    losses const found{1 - energy_of(a_, n_, 2 * r_, false, svd) / exact_,
                       1 - energy_of(a_, n_, 2 * r_, true, svd) / exact_};
    std::printf("%s  {\"spectrum\": \"%s\", \"rank\": %ld, \"plan\": \"%s\", ", first_row_ ? "" : ",\n", kind_,
                static_cast<long>(r_), plan.c_str());
    if (!is.empty()) std::printf("\"is\": \"%s\", ", is.c_str());
    std::printf("\"loss_fp32\": %.3e, \"loss_tf32\": %.3e}", found.fp32, found.tf32);
    std::fflush(stdout);
    first_row_ = false;
    return found;
  }
  losses iterate(index_t width, int iterations, std::string const& is = "") const {
    return look("subspace " + std::to_string(width) + "x" + std::to_string(iterations), is,
                subspace{width, iterations, 0});
  }
};

/// What a GPU gets, beside what users run and what a CPU gets. Returns how many gates were missed.
int presets(comparison const& c, char const* kind, index_t n, index_t r) {
  index_t const k = 2 * r;
  auto const host = loraga::automatic_svd{}.choose(n, n, k).krylov;
  c.look("krylov " + std::to_string(host.block) + "x" + std::to_string(host.depth), "balanced on a CPU",
         block_krylov{host.block, host.depth, 0});
  double const peer = c.iterate(2 * k, 4, "torch.svd_lowrank(q = 2k, niter = 4)").fp32;
  int missed = 0;
  for (bool const tight : {false, true}) {
    auto const quality = tight ? loraga::svd_quality::tight : loraga::svd_quality::balanced;
    auto const plan = loraga::automatic_svd{quality}.choose(n, n, k, loraga::svd_cost::passes);
    if (!plan.iterates) continue;
    char const* const name = tight ? "tight" : "balanced";
    auto const found = c.iterate(plan.iteration.width, plan.iteration.iterations, name);
    double const worse = std::max(found.fp32, found.tf32), gate = tight ? std::max(1e-4, 1.2 * peer) : 1e-3;
    std::fprintf(stderr, "%-8s r=%-4ld %-9s loss %.2e, gate %.2e%s\n", kind, static_cast<long>(r), name, worse, gate,
                 worse <= gate ? "" : ": MISSED");
    missed += worse <= gate ? 0 : 1;
  }
  return missed;
}

}  // namespace

int main(int argc, char** argv) {
  index_t const n = argc > 1 ? std::stol(argv[1]) : 4096;
  int missed = 0;
  std::printf("{\"n\": %ld, \"rows\": [\n", static_cast<long>(n));
  for (char const* kind : {"pl05", "pl1n", "flat16", "lowrank"}) {
    auto const a = passes::make(kind, n);
    for (int i = 2; i < argc; ++i) {
      index_t const r = std::stol(argv[i]), k = 2 * r;
      comparison const c(a, kind, n, r);
      missed += presets(c, kind, n, r);
      // what was chosen from
      if (r <= 32) c.iterate(2 * k, 2), c.iterate(3 * k, 3), c.iterate(4 * k, 1), c.iterate(6 * k, 2);
      else c.iterate(k + k / 4, 2), c.iterate(k + k / 2, 3), c.iterate(k + k / 2, 5), c.iterate(2 * k, 3);
    }
  }
  std::printf("\n]}\n");
  if (missed > 0) std::fprintf(stderr, "%d gates were missed\n", missed);
  return missed > 0 ? 3 : 0;
}
