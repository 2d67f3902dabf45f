#include <chrono>
#include <cstdio>
#include <loraga/svd/automatic.hpp>
#include <string>

#include "matrices.hpp"
#include "rounding.hpp"

// What plans of few, wide passes miss of the optimal energy, with float operands of the passes rounded to TF32 and
// without. Arguments: n, ranks...

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

bool first_row = true;
void row(char const* kind, index_t r, std::string const& plan, double exact, double plain, double rounded) {
  std::printf("%s  {\"spectrum\": \"%s\", \"rank\": %ld, \"plan\": \"%s\", \"loss_fp32\": %.3e, \"loss_tf32\": %.3e}",
              first_row ? "" : ",\n", kind, static_cast<long>(r), plan.c_str(), 1 - plain / exact, 1 - rounded / exact);
  first_row = false;
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  index_t const n = argc > 1 ? std::stol(argv[1]) : 4096;
  std::printf("{\"n\": %ld, \"rows\": [\n", static_cast<long>(n));
  for (char const* kind : {"pl05", "pl1n", "flat16", "lowrank"}) {
    auto const a = passes::make(kind, n);
    for (int i = 2; i < argc; ++i) {
      index_t const r = std::stol(argv[i]), k = 2 * r;
      double const exact = energy_of(a, n, k, false, block_krylov{k, k < 100 ? 14 : 7, 99});
      auto const look = [&](std::string const& name, auto const& svd) {
        row(kind, r, name, exact, energy_of(a, n, k, false, svd), energy_of(a, n, k, true, svd));
      };
      auto const krylov = [&](index_t block, index_t depth) {
        look("krylov " + std::to_string(block) + "x" + std::to_string(depth), block_krylov{block, depth, 0});
      };
      auto const iterate = [&](index_t width, int iterations) {
        look("subspace " + std::to_string(width) + "x" + std::to_string(iterations), subspace{width, iterations, 0});
      };
      auto const host = loraga::automatic_svd{}.choose(n, n, k).krylov;
      krylov(host.block, host.depth);
      if (r <= 32) iterate(2 * k, 2), iterate(3 * k, 2), iterate(4 * k, 1), iterate(4 * k, 2), iterate(4 * k, 3);
      else iterate(k + k / 4, 2), iterate(k + k / 2, 3), iterate(k + k / 2, 4), iterate(k + k / 2, 6);
    }
  }
  std::printf("\n]}\n");
}
