#pragma once
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

// How fast this machine reads memory, rewrites it in place, and multiplies: what floors of a layer's time are made of.

namespace bench {

template <class F>
double milliseconds(F const& f) {
  auto const began = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count();
}

/// The shortest of several runs of task(thread) on all threads at once, in milliseconds.
template <class F>
double fastest(int threads, F const& task) {
  double best = 1e300;
  for (int repeat = 0; repeat < 7; ++repeat)
    best = std::min(best, milliseconds([&] {
                      std::vector<std::thread> others;
                      for (int t = 1; t < threads; ++t) others.emplace_back(task, t);
                      task(0);
                      for (auto& other : others) other.join();
                    }));
  return best;
}

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
using lanes [[gnu::vector_size(vector_bytes)]] = float;

constexpr long streamed = (256L << 20) / vector_bytes;  // vectors in memory: far more than a cache holds

/// The vectors of one thread's share.
struct share {
  long first, last;
  share(int thread, int threads)
      : first(streamed * thread / threads / 8 * 8), last(streamed * (thread + 1) / threads / 8 * 8) {}
};

/// GB/s of a sum over memory, four places at a time, which is faster than one.
inline double reading_speed(int threads) {
  constexpr long places = 4;
  std::vector<lanes> const memory(streamed, lanes{});
  std::vector<lanes> sums(static_cast<std::size_t>(threads) * places);
  double const spent = fastest(threads, [&](int thread) {
    share const part(thread, threads);
    long const length = (part.last - part.first) / places;
    lanes const* const from = memory.data() + part.first;
    lanes sum[places] = {};
    for (long i = 0; i < length; ++i)
      for (long p = 0; p < places; ++p) sum[p] += from[p * length + i];
    for (long p = 0; p < places; ++p) sums[static_cast<std::size_t>(thread * places + p)] = sum[p];
  });
  return static_cast<double>(streamed) * vector_bytes / spent / 1e6;
}

/// GB/s, reads and writes together, of y += c.
inline double updating_speed(int threads) {
  std::vector<lanes> memory(streamed, lanes{});
  double const spent = fastest(threads, [&](int thread) {
    share const part(thread, threads);
    lanes const added = lanes{} + 1e-6f;
    for (long i = part.first; i < part.last; ++i) memory[static_cast<std::size_t>(i)] += added;
  });
  return 2 * static_cast<double>(streamed) * vector_bytes / spent / 1e6;
}

/// GFLOP/s of multiply-adds that touch no memory.
inline double arithmetic_speed(int threads) {
  constexpr int chains = 12;  // enough to hide a multiply-add's latency, and few enough for 16 registers
  constexpr long rounds = 2000000;
  std::vector<lanes> sums(static_cast<std::size_t>(threads) * chains);
  double const spent = fastest(threads, [&](int thread) {
    lanes sum[chains];
    for (int l = 0; l < chains; ++l) sum[l] = lanes{} + static_cast<float>(l);  // different ones, or they would be one
    lanes a = lanes{} + 0.999f, b = lanes{} + 1e-3f;
    for (long i = 0; i < rounds; ++i) {
      asm volatile("" : "+v"(a), "+x"(b));  // or the compiler would see that nothing changes
#pragma GCC unroll 12
      for (int l = 0; l < chains; ++l) sum[l] = sum[l] * a + b;
    }
    for (int l = 0; l < chains; ++l) sums[static_cast<std::size_t>(thread * chains + l)] = sum[l];
  });
  return 2.0 * static_cast<double>(rounds) * chains * (vector_bytes / 4) * threads / spent / 1e6;
}

}  // namespace bench
