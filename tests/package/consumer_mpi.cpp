#include <cstdio>
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#include <loraga/distributed/mpi.hpp>

// Started by itself it is one rank; mpirun starts more.
int main(int argc, char** argv) {
  loraga::mpi_session const session(argc, argv);
  loraga::mpi_communicator comm;
  loraga::cpu be(1);
  std::vector<float> ones(3, 1);
  comm.all_reduce(be, ones.data(), 3);
  std::vector<loraga::dense_gradient<loraga::cpu>> sums;
  sums.emplace_back(be, 2, 3).add_outer(be, loraga::col_major(ones.data(), 2, 1), loraga::col_major(ones.data(), 3, 1));
  loraga::combine(be, comm, sums);
  std::printf("rank %d of %d: %g from %lld\n", comm.rank(), comm.size(), ones[2],
              static_cast<long long>(sums[0].count()));
  return ones[2] == static_cast<float>(comm.size()) && sums[0].count() == comm.size() ? 0 : 1;
}
