#include <cstdio>
#include <loraga/cuda.cuh>

// Builds, links and starts everywhere; without a GPU the backend says so by name.
int main() try {
  loraga::cuda be;
  loraga::lora<float, loraga::cuda> adapter(be, 4, 3, 1, loraga::classic_scaling{});
  loraga::initialise(be, adapter, loraga::kaiming_init{});
  std::printf("loraga %d.%d.%d\n", LORAGA_VERSION_MAJOR, LORAGA_VERSION_MINOR, LORAGA_VERSION_PATCH);
  return 0;
} catch (loraga::backend_error const& failure) {
  std::puts(failure.what());
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}
