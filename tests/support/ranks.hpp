#pragma once
#include <loraga/distributed.hpp>
#include <mutex>

#include "backend.hpp"
#ifdef LORAGA_TEST_MPI
#include <loraga/distributed/mpi.hpp>
#endif

// Test bodies on several ranks: threads of this process, or, in the program that mpirun starts, its processes. Bodies
// check nothing themselves but return numbers, because Catch2 serves one thread.

namespace test {

/// What a rank came to.
struct outcome {
  std::vector<double> values;
  std::string error;  // what it threw
};

#ifdef LORAGA_TEST_MPI
using communicator = loraga::mpi_communicator;
inline std::vector<int> rank_counts() {
  int n = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &n);
  return {n};
}
#else
using communicator = loraga::loopback_communicator;
inline std::vector<int> rank_counts() { return {1, 2, 3, 4, 7}; }
#endif

template <class F>
outcome outcome_of(F const& f) {
  outcome o;
  try {
    o.values = f();
  } catch (std::exception const& failure) {
    o.error = failure.what();
  }
  return o;
}

/// f(backend, communicator) on n ranks; what each came to. Under MPI n is the number of processes.
template <class F>
std::vector<outcome> on_ranks(int n, F const& f) {
#ifdef LORAGA_TEST_MPI
  communicator comm;
  auto be = make_backend(1);
  auto const mine = outcome_of([&] { return f(be, comm); });
  auto const values = comm.all_gather(be, std::as_bytes(std::span(mine.values)));
  auto const errors = comm.all_gather(be, std::as_bytes(std::span(mine.error)));
  std::vector<outcome> all;
  for (std::size_t r = 0; r < values.size(); ++r) {
    auto const* const v = reinterpret_cast<double const*>(values[r].data());
    auto const* const e = reinterpret_cast<char const*>(errors[r].data());
    all.push_back({{v, v + values[r].size() / sizeof(double)}, {e, e + errors[r].size()}});
  }
  (void)n;
  return all;
#else
  std::vector<outcome> all(static_cast<std::size_t>(n));
  loraga::loopback_group(n).run([&](communicator& comm) {
    all[static_cast<std::size_t>(comm.rank())] = outcome_of([&] {
      auto be = make_backend(1);
      return f(be, comm);
    });
  });
  return all;
#endif
}

/// A matrix's numbers behind those that are there.
template <class V>
void append(backend& be, std::vector<double>& values, V v) {
  auto const more = download(be, v).data;
  values.insert(values.end(), more.begin(), more.end());
}

}  // namespace test
