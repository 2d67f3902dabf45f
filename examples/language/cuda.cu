// The job on a GPU: the templates of main.cpp, compiled by nvcc.
#include <loraga/cuda.cuh>

#include "device_job.hpp"

namespace language {

void run_job_on_cuda(options const& o, material const& from, training::job const& work) {
  run_job<loraga::cuda>(
      o, from, [](int) { return std::make_unique<loraga::cuda>(); }, work);
}

}  // namespace language
