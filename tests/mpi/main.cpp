// The tests on ranks, as processes that mpirun starts: the same test files as in the unit tests, where ranks are
// threads.
#define CATCH_CONFIG_EXTERNAL_INTERFACES  // listeners
#include <loraga/distributed/mpi.hpp>
#include <optional>

#include "../support/catch.hpp"

#if __has_include(<catch2/catch_all.hpp>)
using listener = Catch::EventListenerBase;
#else
using listener = Catch::TestEventListenerBase;
#endif

/// MPI lives as long as the run of the tests.
struct mpi_around_tests : listener {
  using listener::listener;
  std::optional<loraga::mpi_session> session;

  void testRunStarting(Catch::TestRunInfo const&) override {
    int argc = 0;
    char** argv = nullptr;
    session.emplace(argc, argv);
  }
  void testRunEnded(Catch::TestRunStats const&) override { session.reset(); }
};
CATCH_REGISTER_LISTENER(mpi_around_tests)
