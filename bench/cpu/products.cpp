// Answers commands on standard input, one line each, so that products.py can time this library's bare products, a
// peer's and what the machine can do in turn within one run.
//   operands A B LD                   A (n x n, columns LD numbers apart) and B, both column-major
//   product ab|atb WIDTH RUNS OUT     A*B or AT*B with the first WIDTH columns of B; prints each run's milliseconds
//   square N RUNS                     the product of two N x N matrices of A's numbers; prints each run's milliseconds
//   peak RUNS                         GF/s of multiply-adds that touch no memory, all threads together, for each run
//
//   read RUNS                         GB/s of reading A, all threads together, for each run
#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <loraga/cpu.hpp>
#include <sstream>

#include "matrix_file.hpp"

namespace {

using bench::index_t;
constexpr index_t packet_size = Eigen::internal::packet_traits<float>::size;
using packet [[gnu::vector_size(packet_size * sizeof(float))]] = float;
using seconds = std::chrono::duration<double>;

/// Of body(thread) on so many threads, from when the first begins until the last is done. All wait for each other
/// first.
template <class F>
double seconds_of(int threads, F const& body) {
  using moment = std::chrono::steady_clock::time_point;
  std::barrier<> all_here(threads);
  std::vector<moment> begun(static_cast<std::size_t>(threads)), done(begun);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t)
    running.emplace_back([&, t] {
      auto const mine = static_cast<std::size_t>(t);
      all_here.arrive_and_wait();
      begun[mine] = std::chrono::steady_clock::now();
      body(t);
      done[mine] = std::chrono::steady_clock::now();
    });
  for (auto& thread : running) thread.join();
  return seconds(*std::max_element(done.begin(), done.end()) - *std::min_element(begun.begin(), begun.end())).count();
}

float volatile seen;  // what is computed must not be left out

template <std::size_t N>
void look_at(packet const (&sums)[N]) {
  for (auto const& sum : sums) seen = sum[0] + sum[packet_size - 1];
}

/// 12 sums that do not wait for each other: more than the multiply-adds in flight, fewer than AVX2's registers.
void multiply_add(index_t steps) {
  float const volatile half = 0.5f, one = 1;
  packet const factor = packet{} + half, term = packet{} + one;
  packet sums[12];
  for (int k = 0; k < 12; ++k) sums[k] = term * static_cast<float>(k);  // equal ones would become one
  for (index_t i = 0; i < steps; ++i)
    for (auto& sum : sums) sum = sum * factor + term;
  look_at(sums);
}

double peak(int threads) {
  index_t const steps = 2'000'000;
  double const spent = seconds_of(threads, [&](int) { multiply_add(steps); });
  return 1e-9 * 2 * 12 * packet_size * static_cast<double>(steps) * threads / spent;
}

/// Sums numbers first..last, as many as fill the eight sums alike.
void read(float const* first, float const* last) {
  packet sums[8] = {};
  for (; last - first >= 8 * packet_size; first += 8 * packet_size)
    for (index_t k = 0; k < 8; ++k) {
      packet numbers;
      std::memcpy(&numbers, first + k * packet_size, sizeof numbers);
      sums[k] += numbers;
    }
  look_at(sums);
}

double read_rate(int threads, bench::host_matrix const& a) {
  index_t const count = static_cast<index_t>(a.values.size());
  double const spent = seconds_of(threads, [&](int t) {
    read(a.values.data() + count * t / threads, a.values.data() + count * (t + 1) / threads);
  });
  return 1e-9 * sizeof(float) * static_cast<double>(count) / spent;
}

bench::host_matrix empty(index_t rows, index_t cols) {
  bench::host_matrix m{rows, cols, {}};
  m.values.resize(static_cast<std::size_t>(rows * cols));
  return m;
}

/// a with columns ld numbers apart.
bench::host_matrix spread(bench::host_matrix const& a, index_t ld) {
  if (ld < a.rows) throw std::runtime_error("LD below the number of rows");
  auto wide = empty(ld, a.cols);
  for (index_t j = 0; j < a.cols; ++j) std::copy_n(a.values.data() + j * a.rows, a.rows, wide.values.data() + j * ld);
  return wide;
}

using operand = loraga::const_view<float, loraga::host_space>;

/// c = a*b so many times. returns  each run's milliseconds
std::vector<double> multiply(loraga::cpu& be, operand a, operand b, bench::host_matrix& c, int runs) {
  auto const result = loraga::col_major(c.values.data(), c.rows, c.cols);
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    auto const start = std::chrono::steady_clock::now();
    be.gemm(1, a, b, 0, result);
    times.push_back(1e3 * seconds(std::chrono::steady_clock::now() - start).count());
  }
  return times;
}

std::vector<double> product(loraga::cpu& be, operand a, operand b, std::string const& which, int runs,
                            std::string const& out) {
  if (which == "atb") a = a.transposed();
  else if (which != "ab") throw std::runtime_error("unknown product " + which);
  auto c = empty(a.rows, b.cols);
  auto times = multiply(be, a, b, c, runs);
  std::ofstream file(out, std::ios::binary);
  bench::write_matrix(file, c.rows, c.cols, {c.values.begin(), c.values.end()});
  if (!file) throw std::runtime_error(out + ": cannot be written");
  return times;
}

std::vector<double> square(loraga::cpu& be, bench::host_matrix const& a, index_t n, int runs) {
  bench::host_matrix operands[] = {empty(n, n), empty(n, n)};
  for (index_t k = 0; k < 2; ++k) std::copy_n(a.values.data() + k * n * n, n * n, operands[k].values.data());
  auto c = empty(n, n);
  return multiply(be, operands[0].view(), operands[1].view(), c, runs);
}

}  // namespace

int main(int argc, char** argv) try {
  int const threads = argc > 1 ? std::stoi(argv[1]) : 1;
  loraga::cpu be(threads);
  bench::host_matrix a, b;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string command, name, out;
    in >> command;
    std::vector<double> answers;
    int runs = 0;
    if (command == "operands") {
      index_t ld = 0;
      in >> name >> out >> ld;
      a = spread(bench::read_matrix(name), ld);
      b = bench::read_matrix(out);
      if (a.cols != b.rows) throw std::runtime_error("A is not square, or B has other rows");
      answers.push_back(0);
    } else if (command == "product") {
      index_t width = 0;
      in >> name >> width >> runs >> out;
      answers = product(be, a.view().row_range(0, b.rows), b.view().columns(0, width), name, runs, out);
    } else if (command == "square") {
      index_t n = 0;
      in >> n >> runs;
      if (2 * n * n > static_cast<index_t>(a.values.size())) throw std::runtime_error("A is too small for " + line);
      answers = square(be, a, n, runs);
    } else if (command == "peak" || command == "read") {
      in >> runs;
      for (int i = 0; i < runs; ++i) answers.push_back(command == "peak" ? peak(threads) : read_rate(threads, a));
    } else {
      throw std::runtime_error("unknown command " + line);
    }
    for (double const answer : answers) std::printf("%.6f ", answer);
    std::printf("\n");
    std::fflush(stdout);
  }
} catch (std::exception const& failure) {
  std::fprintf(stderr, "products: %s\n", failure.what());
  return 1;
}
