// Answers commands on standard input, one line each, so that compare.py can time this library and its peer in turn
// within one run:
//   load FILE            m n (int32), then m*n float32, column-major
//   run METHOD K SEED    times one factorisation, prints "ms loss_u_energy loss_v_energy orthonormality"
// METHOD: balanced | tight | gram | krylov:BLOCK:DEPTH | subspace:WIDTH:ITERATIONS
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <loraga/cpu.hpp>
#include <sstream>
#include <string>

namespace {

using loraga::index_t;
using view = loraga::const_view<float, loraga::host_space>;

struct outcome {
  double milliseconds, energy_u, energy_v, orthonormality;
};

/// ||AT*Q||^2 and max |QT*Q - I|, in double.
double captured(loraga::cpu& be, view a, view q, double& worst) {
  loraga::matrix<double, loraga::cpu> gram(be, q.cols, q.cols);
  loraga::matrix<float, loraga::cpu> image(be, a.cols, q.cols);
  be.gram_batched(loraga::slab_view(q), loraga::slab_view(gram.view()));
  for (index_t j = 0; j < q.cols; ++j)
    for (index_t i = 0; i < q.cols; ++i) worst = std::max(worst, std::abs(gram.view()(i, j) - (i == j)));
  be.gemm(1.0, a.transposed(), q, 0.0, image.view());
  loraga::matrix<double, loraga::cpu> sum(be, 1, 1);
  loraga::sum_of_squares(be, image.view(), sum.view());
  return sum.view()(0, 0);
}

template <class Method>
outcome factor(loraga::cpu& be, Method const& method, view a, index_t k) {
  auto const start = std::chrono::steady_clock::now();
  auto const result = method.top(be, loraga::view_list(&a, 1), k);
  outcome o{std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count(), 0, 0, 0};
  o.energy_u = captured(be, a, result[0].u, o.orthonormality);
  o.energy_v = captured(be, a.transposed(), result[0].v, o.orthonormality);
  return o;
}

outcome run(loraga::cpu& be, std::string const& method, view a, index_t k, std::uint64_t seed) {
  std::istringstream fields(method);
  std::string name, first, second;
  std::getline(fields, name, ':');
  std::getline(fields, first, ':');
  std::getline(fields, second, ':');
  if (name == "balanced") return factor(be, loraga::automatic_svd{.seed = seed}, a, k);
  if (name == "tight")
    return factor(be, loraga::automatic_svd{.quality = loraga::svd_quality::tight, .seed = seed}, a, k);
  if (name == "gram") return factor(be, loraga::gram{}, a, k);
  if (name == "krylov")
    return factor(be, loraga::block_krylov{.block = std::stol(first), .depth = std::stol(second), .seed = seed}, a, k);
  if (name == "subspace")
    return factor(be, loraga::subspace{.width = std::stol(first), .iterations = std::stoi(second), .seed = seed}, a, k);
  throw loraga::value_error("svd_server: unknown method " + method);
}

}  // namespace

int main(int argc, char** argv) try {
  loraga::cpu be(argc > 1 ? std::stoi(argv[1]) : 1);
  std::vector<float> values;
  view a;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command, name;
    in >> command >> name;
    if (command == "load") {
      std::ifstream file(name, std::ios::binary);
      std::int32_t shape[2];
      file.read(reinterpret_cast<char*>(shape), sizeof shape);
      values.resize(static_cast<std::size_t>(shape[0]) * static_cast<std::size_t>(shape[1]));
      file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
      if (!file) throw loraga::value_error("svd_server: cannot read " + name);
      a = loraga::col_major(static_cast<float const*>(values.data()), shape[0], shape[1]);
      std::printf("ok\n");
    } else {
      index_t k = 0;
      std::uint64_t seed = 0;
      in >> k >> seed;
      auto const o = run(be, name, a, k, seed);
      std::printf("%.6f %.17g %.17g %.3g\n", o.milliseconds, o.energy_u, o.energy_v, o.orthonormality);
    }
    std::fflush(stdout);
  }
} catch (std::exception const& failure) {
  std::fprintf(stderr, "%s\n", failure.what());
  return 1;
}
