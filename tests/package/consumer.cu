#include <cstdio>
#include <loraga/cuda.cuh>

// Builds, links and starts everywhere; without a GPU the backend says so by name.
int main() try {
  loraga::cuda be;
  loraga::matrix<float, loraga::cuda> a(be, 3, 3), b(be, 3, 3);  // libraries and flags are meant here, not adapters
  loraga::fill(be, a.view(), 1);
  be.gemm(1.0, a.view(), a.view(), 0.0, b.view());
  std::printf("loraga %d.%d.%d\n", LORAGA_VERSION_MAJOR, LORAGA_VERSION_MINOR, LORAGA_VERSION_PATCH);
  return 0;
} catch (loraga::backend_error const& failure) {
  std::puts(failure.what());
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}
