#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <loraga/svd/automatic.hpp>
#include <string>

#include "../cpu/matrix_file.hpp"
#include "matrices.hpp"
#include "rounding.hpp"

// What plans of few, wide passes miss of the optimal energy, with float operands of the passes rounded to TF32 and
// without. Arguments: n, ranks... of made spectra, or a folder of matrix files, ranks.... Exit code 3 where a plan that
// automatic_svd has for a GPU misses its gate.

namespace {

using loraga::block_krylov;
using loraga::subspace;
using passes::host_space;
using passes::index_t;
using matrix = loraga::const_view<float, host_space>;

double energy_of(matrix const& one, index_t k, bool rounds, auto const& svd) {
  passes::rounding_cpu be(rounds);
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
  matrix a_;
  std::string kind_;
  index_t r_;
  double exact_;
  inline static bool first_row_ = true;

  static double optimum(matrix const& a, index_t r) {
    if (std::min(a.rows, a.cols) <= 1024) return energy_of(a, 2 * r, false, loraga::gram{});
    return energy_of(a, 2 * r, false, block_krylov{2 * r, r < 50 ? 14 : 7, 99});
  }

 public:
  comparison(matrix const& a, std::string kind, index_t r)
      : a_(a), kind_(std::move(kind)), r_(r), exact_(optimum(a, r)) {}
  losses look(std::string const& plan, std::string const& is, auto const& svd) const {
    losses const found{1 - energy_of(a_, 2 * r_, false, svd) / exact_, 1 - energy_of(a_, 2 * r_, true, svd) / exact_};
    std::printf("%s  {\"spectrum\": \"%s\", \"rank\": %ld, \"plan\": \"%s\", ", first_row_ ? "" : ",\n", kind_.c_str(),
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
  /// What a GPU gets, beside what users run and what a CPU gets. Returns how many gates were missed.
  int presets() const;
  /// What was chosen from.
  void others() const {
    index_t const k = 2 * r_;
    if (r_ <= 32) iterate(2 * k, 2), iterate(3 * k, 3), iterate(4 * k, 1), iterate(6 * k, 2);
    else iterate(k + k / 4, 2), iterate(k + k / 2, 3), iterate(k + k / 2, 5), iterate(2 * k, 3);
  }
};

int comparison::presets() const {
  index_t const k = 2 * r_;
  auto const host = loraga::automatic_svd{}.choose(a_.rows, a_.cols, k);
  if (!host.exact)
    look("krylov " + std::to_string(host.krylov.block) + "x" + std::to_string(host.krylov.depth), "balanced on a CPU",
         block_krylov{host.krylov.block, host.krylov.depth, 0});
  double const peer = iterate(2 * k, 4, "torch.svd_lowrank(q = 2k, niter = 4)").fp32;
  int missed = 0;
  for (bool const tight : {false, true}) {
    auto const quality = tight ? loraga::svd_quality::tight : loraga::svd_quality::balanced;
    auto const plan = loraga::automatic_svd{quality}.choose(a_.rows, a_.cols, k, loraga::svd_cost::passes);
    if (!plan.iterates) continue;
    char const* const name = tight ? "tight" : "balanced";
    auto const found = iterate(plan.iteration.width, plan.iteration.iterations, name);
    double const worse = std::max(found.fp32, found.tf32), gate = tight ? std::max(1e-4, 1.2 * peer) : 1e-3;
    std::fprintf(stderr, "%-8s r=%-4ld %-9s loss %.2e, gate %.2e%s\n", kind_.c_str(), static_cast<long>(r_), name,
                 worse, gate, worse <= gate ? "" : ": MISSED");
    missed += worse <= gate ? 0 : 1;
  }
  return missed;
}

int made(index_t n, std::vector<index_t> const& ranks) {
  int missed = 0;
  for (char const* kind : {"pl05", "pl1n", "flat16", "lowrank"}) {
    auto const a = passes::make(kind, n);
    for (index_t const r : ranks) {
      comparison const c(loraga::col_major(a.data(), n, n), kind, r);
      missed += c.presets();
      c.others();
    }
  }
  return missed;
}

int real(std::filesystem::path const& folder, std::vector<index_t> const& ranks) {
  std::vector<std::filesystem::path> files;
  for (auto const& entry : std::filesystem::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  int missed = 0;
  for (auto const& file : files) {
    auto const a = bench::read_matrix(file.string());
    for (index_t const r : ranks)
      if (loraga::automatic_svd{}.choose(a.rows, a.cols, 2 * r, loraga::svd_cost::passes).iterates)
        missed += comparison(a.view(), file.stem().string(), r).presets();
  }
  return missed;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("expected N RANK... or FOLDER RANK...");
  std::string const first = argv[1];
  std::vector<index_t> ranks;
  for (int i = 2; i < argc; ++i) ranks.push_back(std::stol(argv[i]));
  bool const is_folder = std::filesystem::is_directory(first);
  if (is_folder) std::printf("{\"rows\": [\n");
  else std::printf("{\"n\": %s, \"rows\": [\n", first.c_str());
  int const missed = is_folder ? real(first, ranks) : made(std::stol(first), ranks);
  std::printf("\n]}\n");
  if (missed > 0) std::fprintf(stderr, "%d gates were missed\n", missed);
  return missed > 0 ? 3 : 0;
} catch (std::exception const& failure) {
  std::fprintf(stderr, "cuda_passes: %s\n", failure.what());
  return 1;
}
