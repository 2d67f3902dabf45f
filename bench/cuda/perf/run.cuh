#pragma once
#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>
#include <loraga/cuda.cuh>
#include <string>
#include <utility>
#include <vector>

// What the sections of `perf` share: sizes, times, memory, and a line of JSON per result.

namespace perf {

using loraga::index_t;
using backend = loraga::cuda;
template <class T>
using view = loraga::matrix_view<T, loraga::device_space>;

/// Sizes are divided by `scale`, so that a rehearsal on a host ends; 1 for a record.
struct settings {
  index_t scale = 1;
  double seconds = 1;     ///< of repetitions per figure, at most
  bool profiled = false;  ///< only what a profiler shall see, once

  index_t side(index_t n) const { return scale == 1 ? n : std::max<index_t>(n / scale, 16); }
  index_t number(index_t n) const { return scale == 1 ? n : std::max<index_t>(n / scale, 2); }
  index_t rank(index_t r) const { return scale == 1 ? r : std::max<index_t>(r / scale, 1); }
};

/// One result: a line of JSON on standard output.
class result {
  std::string text_;

 public:
  result(std::string const& section, std::string const& name);
  result& with(char const* key, double value);  ///< null if it is not finite
  result& with(char const* key, std::string const& value);
  ~result();
  result(result const&) = delete;
  result& operator=(result const&) = delete;
};

/// Seconds on the device, between events on the backend's stream, with what the host spends between them.
struct times {
  double median = 0, fastest = 0;
  int runs = 0;
};
/// After two calls that do not count: repetitions until `seconds` are over, at least 3 and at most 50. Short work is
/// called several times between two events; work that needs a preparation each time, once.
times time_of(backend& be, settings const& how, std::function<void()> const& work,
              std::function<void()> const& before = {});
/// The same of a graph of it, replayed. `runs` is 0 where it cannot be captured.
times time_of_replays(backend& be, settings const& how, std::function<void()> const& work);
/// `r` with seconds, seconds_fastest and runs.
result& with_times(result& r, times const& t);

/// Runs the work twice, the second time for a profiler that waits for it.
void profile(backend& be, std::function<void()> const& work);
/// Kernels launched by the work, those of CUDA's libraries too; -1 where they cannot be counted.
double launches_of(backend& be, std::function<void()> const& work);
/// The most device memory in use while the work runs, above what was in use before, in bytes; sampled each millisecond.
double memory_peak_of(backend& be, std::function<void()> const& work);
/// Free device memory in bytes.
double free_memory();

/// Prints what some work takes: called again and again, and replayed as a graph where it can be captured.
struct timed {
  backend& be;
  settings const& how;
  char const* section;
  void operator()(std::string const& name, std::function<void()> const& work, double error = -1,
                  double flops = 0) const;
};

/// The squared Frobenius norm.
template <class V>
double energy_of(backend& be, V v) {
  loraga::matrix<double, backend> cell(be, 1, 1);
  loraga::sum_of_squares(be, v, cell.view());
  return loraga::read_scalar(be, cell.view());
}
/// |x - y| / |y|, in y's type.
template <class X, class Y>
double relative_error(backend& be, X x, Y y) {
  using T = loraga::compute_t<typename Y::value_type>;
  loraga::matrix<T, backend> difference(be, y.rows, y.cols);
  loraga::axpby(be, 1.0, x, 0.0, difference.view());
  loraga::axpby(be, -1.0, y, 1.0, difference.view());
  return std::sqrt(energy_of(be, difference.view()) / energy_of(be, y));
}

/// A section has a name, by which it is called, and runs alone in its process.
struct section {
  char const* name;
  void (*run)(backend&, settings const&);
};
std::vector<section> const& sections();

void ceilings(backend&, settings const&);
void eigenproblems(backend&, settings const&);
void passes(backend&, settings const&);
void grams(backend&, settings const&);
void factorisations(backend&, settings const&);
void initialise_7b(backend&, settings const&);
void initialise_8b(backend&, settings const&);
void estimates(backend&, settings const&);
void offloaded(backend&, settings const&);
void adapters(backend&, settings const&);
void optimisers(backend&, settings const&);

}  // namespace perf
