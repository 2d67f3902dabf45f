#include <loraga/distributed/loopback.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend;

static_assert(Communicator<loopback_communicator, backend>);
static_assert(Communicator<counted_communicator<loopback_communicator>, backend>);

namespace {

/// What a group of two ends with.
template <class F>
std::string end_of_two(F const& f) {
  return test::message_of([&] {
    loopback_group(2).run([&](loopback_communicator& comm) {
      auto be = test::make_backend(1);
      f(be, comm);
    });
  });
}

}  // namespace

TEST_CASE("loop-back ranks that send other sizes than are expected are told", "[distributed]") {
  auto const sizes = [](auto const& call) {
    return end_of_two([&](backend& be, loopback_communicator& comm) {
      matrix<float, backend> m(be, 8, 1);
      fill(be, m.view(), 1);
      call(be, comm, m.view().data, comm.rank() == 0 ? 8 : 4);
    });
  };
  auto const raw = [](float* p) { return reinterpret_cast<std::byte*>(p); };
  CHECK(sizes([](auto& be, auto& comm, float* p, index_t n) {
          comm.all_reduce(be, p, n);
        }).find("loopback_communicator::all_reduce") == 0);
  CHECK(sizes([&](auto& be, auto& comm, float* p, index_t n) {
          comm.broadcast(be, raw(p), n, 0);
        }).find("loopback_communicator::broadcast") == 0);
  CHECK(sizes([&](auto& be, auto& comm, float* p, index_t n) {
          comm.exchange(be, raw(p), n, raw(p), n, 1 - comm.rank());
        }).find("loopback_communicator::exchange") == 0);
}

TEST_CASE("a loop-back group ends with what its first rank to fail threw, and serves again", "[distributed]") {
  for (int i = 0; i < 3; ++i)
    CHECK(end_of_two([](backend& be, loopback_communicator& comm) {
            if (comm.rank() == 1) throw value_error("a fault");
            comm.all_gather(be, {});
          }) == "a fault");
  CHECK(end_of_two([](backend&, loopback_communicator& comm) {
          if (comm.rank() == 1) comm.abort("the end");
        }) == "the end");
  CHECK_THROWS_AS(loopback_group(0), value_error);
}

TEST_CASE("a counted communicator counts what a ring would send", "[distributed]") {
  loopback_group(4).run([](loopback_communicator& comm) {
    auto be = test::make_backend(1);
    counted_communicator counted(comm);
    matrix<double, backend> m(be, 10, 1);
    fill(be, m.view(), 1);
    auto* const bytes = reinterpret_cast<std::byte*>(m.view().data);
    counted.all_reduce(be, m.view().data, 10);
    counted.broadcast(be, bytes, 40, 2);
    counted.exchange(be, bytes, 7, bytes, 7, comm.rank() ^ 1);
    counted.all_gather(be, {});
    if (counted.count.messages != 3 || counted.count.meetings != 1 || counted.count.sent != 1.5 * 80 + 0.75 * 40 + 7)
      throw std::runtime_error("counted wrongly");
  });
}
