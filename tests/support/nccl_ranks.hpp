#pragma once
#include <loraga/distributed/nccl.cuh>

#include "ranks.hpp"

// Ranks that talk by NCCL: threads of this process, one GPU each, or any number of them on the double of the CUDA
// libraries.

namespace test {

inline std::vector<int> nccl_rank_counts() {
#ifdef LORAGA_TEST_DOUBLE
  return {1, 2, 3};
#else
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  std::vector<int> counts;
  for (int n = 1; n <= std::min(devices, 4); ++n) counts.push_back(n);
  return counts;
#endif
}

/// f(backend, communicator) on n ranks; what each came to.
template <class F>
std::vector<outcome> on_nccl_ranks(int n, F const& f) {
  std::vector<outcome> all(static_cast<std::size_t>(n));
  loraga::loopback_group(n).run([&](loraga::loopback_communicator& other) {
    all[static_cast<std::size_t>(other.rank())] = outcome_of([&] {
#ifndef LORAGA_TEST_DOUBLE
      loraga::gpu::check(cudaSetDevice(other.rank()), "cudaSetDevice");
#endif
      auto be = make_backend(1);
      loraga::nccl_communicator comm(be, other);
      return f(be, comm);
    });
  });
  return all;
}

}  // namespace test
