#include <cstdio>
#include <loraga/distributed/loopback.hpp>
#include <loraga/distributed/nccl.cuh>

// Builds, links and starts everywhere; without a GPU the backend says so by name.
int main() try {
  loraga::loopback_group(1).run([](loraga::loopback_communicator& other) {
    loraga::cuda be;
    loraga::nccl_communicator comm(be, other);
    loraga::matrix<float, loraga::cuda> m(be, 3, 1);
    comm.all_reduce(be, m.view().data, 3);
    be.synchronize();
    std::printf("rank %d of %d\n", comm.rank(), comm.size());
  });
  return 0;
} catch (loraga::backend_error const& failure) {
  std::puts(failure.what());
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
}
