// README's program on the CUDA backend: the same text behind another include.
#include "readme_cuda.hpp"
// And blocks of docs/gpu.md.
#include "excerpts.cu"

void on_a_gpu(loraga::cuda& be, float* w, float* x, float* y, float* dx, float* dy) {
  fine_tune(be, w, x, y, dx, dy, 64, 48, 256, [] {});
}
