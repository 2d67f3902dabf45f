// The main job on a GPU: the templates of main.cpp, compiled by nvcc.
#include <loraga/cuda.cuh>

#include "device_job.hpp"

namespace finetune {

void run_job_on_cuda(options const& o, report const& write) {
  run_job<loraga::cuda>(
      o, [](int) { return std::make_unique<loraga::cuda>(); }, write);
}

}  // namespace finetune
