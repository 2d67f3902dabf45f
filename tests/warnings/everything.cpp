// Every public header for a CPU, and the templates that optimisers look into: compiled with warnings as errors.
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#if __has_include(<mpi.h>)
#include <loraga/distributed/mpi.hpp>
#endif
#include <loraga/io/checkpoint.hpp>
#include <loraga/io/gguf.hpp>
#include <loraga/io/merge_peft.hpp>
#include <loraga/io/model.hpp>
#include <loraga/io/peft.hpp>
#include <loraga/io/record_algebra.hpp>
#include <loraga/io/record_info.hpp>
#include <loraga/io/weight_change.hpp>
#include <loraga/optim/schedule.hpp>
#include <loraga/svd/eigen.hpp>

#include "readme.cpp"

namespace loraga {

template struct svd_result<float, cpu>;
template class lora<float, cpu>;
template class lora<bf16, cpu>;
template class any_adapter<float, cpu>;
template class incremental_gradient<cpu>;
template class dense_gradient<cpu>;

std::vector<index_t> ranks(std::span<layer_importance const> layers) { return ranks_by_importance(layers, 8, 4, 32); }
std::string head() { return format::safetensors_head({}, {}, {}); }

/// What ranks do together.
template <class C>
void work_of_ranks(cpu& be, C& comm, std::vector<incremental_gradient<cpu>>& estimates,
                   std::vector<dense_gradient<cpu>>& sums, std::vector<input_statistics<cpu>>& statistics,
                   lora<float, cpu>& adapter) {
  combine(be, comm, estimates);
  combine(be, comm, sums);
  combine(be, comm, statistics);
  initialise(be, adapter, lora_ga_init{}, estimates[0], frozen_pair_anchor{}, over_ranks(comm));
  gradient_average<cpu> average;
  average.add(adapter);
  average.run(be, comm, 1);
}
#define LORAGA_WORK_OF(C)                                                                                              \
  template void work_of_ranks<C>(cpu&, C&, std::vector<incremental_gradient<cpu>>&, std::vector<dense_gradient<cpu>>&, \
                                 std::vector<input_statistics<cpu>>&, lora<float, cpu>&);
LORAGA_WORK_OF(counted_communicator<loopback_communicator>)
#if __has_include(<mpi.h>)
LORAGA_WORK_OF(mpi_communicator)
#endif

}  // namespace loraga

void train(loraga::cpu& be, float* p, loraga::index_t n) {
  fine_tune(be, p, p, p, p, p, n, n, n, [] {});
}
