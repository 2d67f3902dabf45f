// The job on a GPU: the templates of main.cpp, compiled by nvcc.
#include <loraga/cuda.cuh>

#include "device_job.hpp"

namespace sentiment {

void run_job_on_cuda(options const& o, data_sets const& sets, training::job const& work) {
  run_job<loraga::cuda>(
      o, sets, [](int) { return std::make_unique<loraga::cuda>(); }, work);
}

}  // namespace sentiment
