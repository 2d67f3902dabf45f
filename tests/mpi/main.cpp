// The tests on ranks, as processes that mpirun starts: the same test files as in the unit tests, where ranks are threads.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <loraga/distributed/mpi.hpp>

int main(int argc, char** argv) {
  loraga::mpi_session const session(argc, argv);
  return Catch::Session().run(argc, argv);
}
