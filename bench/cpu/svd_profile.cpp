// Where the time of a truncated SVD goes, on one thread:
//   svd_profile RUNS FILE...       matrices, as compare.py keeps them; prints JSON
// For r = 8, 32, 128 and both presets: the shares of passes over the matrix, of other products (orthonormalisation,
// Ritz vectors), of Gram matrices in double, of eigenproblems and Cholesky factors, and of the rest (the matrix's norm,
// random numbers, signs). Median of RUNS runs.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <loraga/cpu.hpp>

#include "matrix_file.hpp"

namespace {

using bench::index_t;
using clock_type = std::chrono::steady_clock;

double milliseconds_since(clock_type::time_point start) {
  return std::chrono::duration<double, std::milli>(clock_type::now() - start).count();
}

struct shares {
  double passes = 0, products = 0, grams = 0, factors = 0, total = 0;
};

/// The CPU backend, looking at the clock around its primitives.
struct timed_cpu : loraga::cpu {
  shares spent;
  index_t matrix_size = 0;  // numbers of the matrix that is factored

  timed_cpu() : cpu(1) {}
  template <class F>
  static void time(double& into, F const& work) {
    auto const start = clock_type::now();
    work();
    into += milliseconds_since(start);
  }
  template <class A, class B, class C>
  void gemm_batched(double alpha, A const& a, B const& b, double beta, C const& c) {
    bool const pass = a.rows * a.cols == matrix_size;
    time(pass ? spent.passes : spent.products, [&] { cpu::gemm_batched(alpha, a, b, beta, c); });
  }
  template <class Y, class S>
  void gram_batched(Y const& y, S s) {
    time(spent.grams, [&] { cpu::gram_batched(y, s); });
  }
  template <class S, class F>
  void cholesky_inverse_batched(S s, double relative, double absolute, F flags) {
    time(spent.factors, [&] { cpu::cholesky_inverse_batched(s, relative, absolute, flags); });
  }
  template <class S, class F>
  void eigh_batched(S s, index_t k, S values, F flags) {
    time(spent.factors, [&] { cpu::eigh_batched(s, k, values, flags); });
  }
  template <class F>
  void for_each_chunk(index_t count, F const& task) {
    for (index_t i = 0; i < count; ++i) task(*this, i, index_t{1});
  }
  std::unique_ptr<timed_cpu> fork() const { return std::make_unique<timed_cpu>(); }
};

shares median_run(timed_cpu& be, bench::host_matrix const& m, index_t k, loraga::svd_quality quality, int runs) {
  be.matrix_size = m.rows * m.cols;
  loraga::const_view<float, loraga::host_space> const view = m.view();
  std::vector<shares> all;
  for (int i = 0; i <= runs; ++i) {  // the first is a warm-up
    be.spent = {};
    auto const start = clock_type::now();
    (void)loraga::automatic_svd{.quality = quality, .seed = static_cast<std::uint64_t>(i)}.top(
        be, loraga::view_list(&view, 1), k);
    be.spent.total = milliseconds_since(start);
    if (i > 0) all.push_back(be.spent);
  }
  auto const middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end(), [](auto const& a, auto const& b) { return a.total < b.total; });
  return *middle;
}

void print(std::string const& name, index_t rank, char const* quality, shares const& s, bool first) {
  auto const share = [&](double part) { return part / s.total; };
  std::printf("%s\n  {\"matrix\": \"%s\", \"rank\": %ld, \"quality\": \"%s\", \"ms\": %.3f, \"passes\": %.3f, ",
              first ? "" : ",", name.c_str(), static_cast<long>(rank), quality, s.total, share(s.passes));
  std::printf("\"other_products\": %.3f, \"grams\": %.3f, \"small_factorisations\": %.3f, \"rest\": %.3f}",
              share(s.products), share(s.grams), share(s.factors),
              share(s.total - s.passes - s.products - s.grams - s.factors));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("expected RUNS FILE...");
  timed_cpu be;
  std::printf("{\"command\": \"bash bench/run.sh cpu\", \"threads\": 1, \"rows\": [");
  bool first = true;
  for (int f = 2; f < argc; ++f) {
    auto const m = bench::read_matrix(argv[f]);
    for (index_t const rank : {8, 32, 128})
      for (auto const quality : {loraga::svd_quality::balanced, loraga::svd_quality::tight}) {
        auto const s = median_run(be, m, 2 * rank, quality, std::stoi(argv[1]));
        print(std::filesystem::path(argv[f]).filename().string(), rank,
              quality == loraga::svd_quality::tight ? "tight" : "balanced", s, first);
        first = false;
      }
  }
  std::printf("\n]}\n");
} catch (std::exception const& failure) {
  std::fprintf(stderr, "svd_profile: %s\n", failure.what());
  return 1;
}
