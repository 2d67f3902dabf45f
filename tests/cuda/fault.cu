// A kernel that runs into forbidden memory: the next call that waits says so. Hidden, because CUDA gives the process no
// second chance; ctest runs it in one of its own.
#include "../support/backend.hpp"
#include "../support/catch.hpp"

namespace {

struct write_nowhere {
  LORAGA_HD void operator()(loraga::index_t i, loraga::index_t) const {
    *reinterpret_cast<float volatile*>(16 + 4 * i) = 1;
  }
};

}  // namespace

TEST_CASE("a kernel's fault is named", "[.fault]") {
  auto* const be = new test::backend;  // kept: after the fault nothing can be given back
  be->for_each(4, 1, write_nowhere{});
  CHECK_THROWS_WITH(be->synchronize(), Catch::StartsWith("cudaStreamSynchronize: status is 700"));
}
