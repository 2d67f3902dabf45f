// Answers commands on standard input, one line each, so that compare.py can time this library and its peer in turn
// within one run. Factors go to a file, where compare.py judges both sides' by the same code.
//   load FILE...                                  a batch of equal-shaped matrices
//   run METHOD K SEED OUT                         k triplets of each; prints milliseconds
//   tokens X DY                                   activations and output gradients, features x tokens
//   stream RANK WIDTH POWER TOKENS SEED OUT       2*RANK triplets of dY*XT by incremental_gradient, fed TOKENS columns
//                                                 at a time; prints milliseconds
// METHOD: balanced | tight | gram | krylov:BLOCK:DEPTH | subspace:WIDTH:ITERATIONS
#include <chrono>
#include <cstdio>
#include <iostream>
#include <loraga/cpu.hpp>
#include <sstream>

#include "matrix_file.hpp"

namespace {

using bench::index_t;
using views = std::vector<loraga::const_view<float, loraga::host_space>>;

class stopwatch {
  std::chrono::steady_clock::time_point const start_ = std::chrono::steady_clock::now();

 public:
  double milliseconds() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_).count();
  }
};

void write_factors(loraga::cpu& be, loraga::svd_result<float, loraga::cpu> const& result, std::string const& path) {
  std::ofstream file(path, std::ios::binary);
  for (index_t b = 0; b < result.count(); ++b)
    for (auto const& f : {result[b].u, result[b].v}) bench::write_matrix(file, f.rows, f.cols, loraga::read_all(be, f));
  if (!file) throw std::runtime_error(path + ": cannot be written");
}

template <class Method>
double factor(loraga::cpu& be, Method const& method, views const& batch, index_t k, std::string const& out) {
  stopwatch const watch;
  auto const result = method.top(be, loraga::view_list(batch.data(), static_cast<index_t>(batch.size())), k);
  double const spent = watch.milliseconds();
  write_factors(be, result, out);
  return spent;
}

double run(loraga::cpu& be, std::string const& method, views const& batch, index_t k, std::uint64_t seed,
           std::string const& out) {
  std::istringstream fields(method);
  std::string name, first, second;
  std::getline(fields, name, ':');
  std::getline(fields, first, ':');
  std::getline(fields, second, ':');
  if (name == "balanced") return factor(be, loraga::automatic_svd{.seed = seed}, batch, k, out);
  if (name == "tight")
    return factor(be, loraga::automatic_svd{.quality = loraga::svd_quality::tight, .seed = seed}, batch, k, out);
  if (name == "gram") return factor(be, loraga::gram{}, batch, k, out);
  if (name == "krylov")
    return factor(be, loraga::block_krylov{.block = std::stol(first), .depth = std::stol(second), .seed = seed}, batch,
                  k, out);
  if (name == "subspace")
    return factor(be, loraga::subspace{.width = std::stol(first), .iterations = std::stoi(second), .seed = seed}, batch,
                  k, out);
  throw std::runtime_error("unknown method " + method);
}

double stream(loraga::cpu& be, bench::host_matrix const& x, bench::host_matrix const& dy,
              loraga::gradient_options const& options, index_t tokens, std::string const& out) {
  loraga::incremental_gradient<loraga::cpu> gradient(be, dy.rows, x.rows, options);  // its memory is there already
  stopwatch const watch;
  for (index_t first = 0; first < x.cols; first += tokens) {
    index_t const n = std::min(tokens, x.cols - first);
    gradient.add_outer(be, dy.view().columns(first, n), x.view().columns(first, n));
  }
  auto const result = gradient.top(be, loraga::automatic_svd{}, 2 * options.rank);
  double const spent = watch.milliseconds();
  write_factors(be, result, out);
  return spent;
}

}  // namespace

int main(int argc, char** argv) try {
  loraga::cpu be(argc > 1 ? std::stoi(argv[1]) : 1);
  std::vector<bench::host_matrix> loaded;
  bench::host_matrix x, dy;
  views batch;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command, name, out;
    in >> command;
    if (command == "load") {
      loaded.clear();
      batch.clear();
      while (in >> name) loaded.push_back(bench::read_matrix(name));
      for (auto const& m : loaded) batch.push_back(m.view());
      std::printf("0\n");
    } else if (command == "tokens") {
      in >> name >> out;
      x = bench::read_matrix(name);
      dy = bench::read_matrix(out);
      std::printf("0\n");
    } else if (command == "run") {
      index_t k = 0;
      std::uint64_t seed = 0;
      in >> name >> k >> seed >> out;
      std::printf("%.6f\n", run(be, name, batch, k, seed, out));
    } else if (command == "stream") {
      loraga::gradient_options options;
      index_t tokens = 0;
      in >> options.rank >> options.width >> options.power_steps >> tokens >> options.seed >> out;
      std::printf("%.6f\n", stream(be, x, dy, options, tokens, out));
    } else {
      throw std::runtime_error("unknown command " + line);
    }
    std::fflush(stdout);
  }
} catch (std::exception const& failure) {
  std::fprintf(stderr, "svd_server: %s\n", failure.what());
  return 1;
}
