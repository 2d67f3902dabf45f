// What only the double can show of NCCL: the stream that calls run on, every failure by its name, nothing leaked, and
// the end of a process that others wait for.
#include <sys/wait.h>
#include <unistd.h>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/nccl_ranks.hpp"
#include "device_double.hpp"

using namespace loraga;
using test::backend;

namespace {

/// One rank that calls everything but all_gather, whose failures end the process.
void every_data_call() {
  loopback_group(1).run([](loopback_communicator& other) {
    backend be;
    nccl_communicator comm(be, other);
    matrix<double, backend> m(be, 4, 1);
    fill(be, m.view(), 1);
    auto* const p = reinterpret_cast<std::byte*>(m.view().data);
    comm.all_reduce(be, m.view().data, 4);
    comm.broadcast(be, p, 32, 0);
    comm.exchange(be, p, 8, p + 8, 8, 0);
    be.synchronize();
  });
}

/// What a process of its own says on stderr, and how it ends: `f` runs in it.
template <class F>
std::pair<std::string, int> in_a_process(F const& f) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  pid_t const child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    try {
      f();
    } catch (std::exception const& failure) {
      std::fprintf(stderr, "thrown: %s\n", failure.what());
    }
    std::_Exit(0);
  }
  close(ends[1]);
  std::string said;
  char part[256];
  for (ssize_t n = 0; (n = ::read(ends[0], part, sizeof part)) > 0;) said.append(part, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return {said, WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}
/// One rank that gathers, in a process of its own, after `before` was called.
template <class F>
std::pair<std::string, int> gathering(F const& before) {
  return in_a_process([&] {
    loopback_group(1).run([&](loopback_communicator& other) {
      backend be;
      nccl_communicator comm(be, other);
      before(comm);
      std::byte const one[1]{};
      comm.all_gather(be, one);
    });
  });
}

}  // namespace

TEST_CASE("NCCL's calls run on the backend's stream", "[nccl]") {
  auto const all = test::on_nccl_ranks(2, [](backend& be, nccl_communicator& comm) {
    std::vector<double> right;
    matrix<double, backend> m(be, 4, 1);
    fill(be, m.view(), 1);
    auto* const p = reinterpret_cast<std::byte*>(m.view().data);
    auto const look = [&](auto const& call) {
      backend other;  // one whose stream was used last
      comm.all_reduce(other, m.view().data, 1);
      call();
      right.push_back(device_double::nccl_stream() == be.stream());
    };
    look([&] { comm.all_reduce(be, m.view().data, 4); });
    look([&] { comm.broadcast(be, p, 32, 1); });
    look([&] {
      comm.exchange(be, p, 8, p + 8, 0, 1 - comm.rank()), comm.exchange(be, p, 0, p + 8, 8, 1 - comm.rank());
    });
    look([&] { comm.all_gather(be, {}); });
    return right;
  });
  for (auto const& one : all) CHECK(one.values == std::vector<double>(4, 1.0));
}

TEST_CASE("a failed call of NCCL is named, and leaks nothing", "[nccl]") {
  every_data_call();
  auto const device = device_double::live_device_allocations(), handles = device_double::live_handles();
  for (char const* function :
       {"ncclGetUniqueId", "ncclCommInitRank", "ncclCommUserRank", "ncclCommCount", "ncclAllReduce", "ncclBroadcast",
        "ncclGroupStart", "ncclSend", "ncclRecv", "ncclGroupEnd"}) {
    INFO(function);
    device_double::fail_next(function, ncclSystemError);
    CHECK_THROWS_WITH(every_data_call(),
                      Catch::Contains(std::string(function) + ": status is 2 (a failure; of the double)"));
    CHECK(device_double::pending() == 0);
    CHECK(device_double::live_device_allocations() == device);
    CHECK(device_double::live_handles() == handles);
  }
  auto const all = test::on_nccl_ranks(1, [](backend& be, nccl_communicator& comm) {
    auto const from = test::upload<double>(be, test::generate(1, 1, [](index_t, index_t) { return 7; }));
    matrix<double, backend> to(be, 1, 1);
    auto const exchange = [&] {
      comm.exchange(be, reinterpret_cast<std::byte const*>(from.view().data), 8,
                    reinterpret_cast<std::byte*>(to.view().data), 8, 0);
    };
    device_double::fail_next("ncclSend", ncclSystemError);
    auto const first = test::outcome_of([&] { return exchange(), std::vector<double>(); });
    exchange();  // no group of calls is open still
    return std::vector<double>{first.error.empty() ? 0.0 : 1.0, test::download(be, to.view())(0, 0)};
  });
  CHECK(all[0].values == std::vector<double>{1, 7});
}

TEST_CASE("a rank that fails while others wait for it by NCCL ends its process, with the sentence", "[nccl]") {
  auto const [said, status] = gathering([](nccl_communicator& comm) { comm.abort("rank 0 of 1: the sentence"); });
  CHECK(said == "rank 0 of 1: the sentence\n");
  CHECK(status == 1);
  auto const [first, first_status] =
      gathering([](auto&) { device_double::fail_next("ncclAllGather", ncclInternalError); });
  CHECK_THAT(first, Catch::Contains("rank 0 of 1: ncclAllGather: status is 3") && !Catch::Contains("thrown"));
  CHECK(first_status == 1);
  auto const [second, second_status] =
      gathering([](auto&) { device_double::fail_next("cudaMemcpyAsync", cudaErrorUnknown, 3); });
  CHECK_THAT(second, Catch::Contains("rank 0 of 1: cudaMemcpyAsync") && !Catch::Contains("thrown"));
  CHECK(second_status == 1);
}

TEST_CASE("a rank that waits by NCCL notices that another one is gone", "[nccl]") {
  auto const [said, status] = gathering([](auto&) {
    device_double::fail_next("cudaStreamQuery", cudaErrorNotReady, 1);
    device_double::fail_next("ncclCommGetAsyncError", ncclRemoteError, 1);
  });
  CHECK_THAT(said, Catch::Contains("waits for the other ranks: status is 6 (another rank is gone"));
  CHECK(status == 1);
  auto const [nothing, fine] =
      gathering([](auto&) { device_double::fail_next("cudaStreamQuery", cudaErrorNotReady, 2); });
  CHECK(nothing.empty());
  CHECK(fine == 0);
}

TEST_CASE("a rank that unwinds aborts what the others wait in", "[nccl]") {
  auto const ended = [](bool unwinds, char const* by) {
    auto const before = device_double::calls(by);
    (void)test::on_nccl_ranks(1, [&](backend&, nccl_communicator&) {
      return unwinds ? throw std::runtime_error("gone") : std::vector<double>();
    });
    return device_double::calls(by) - before;
  };
  CHECK(ended(true, "ncclCommAbort") == 1);
  CHECK(ended(true, "ncclCommDestroy") == 0);
  CHECK(ended(false, "ncclCommAbort") == 0);
  CHECK(ended(false, "ncclCommDestroy") == 1);
  auto const all = test::on_nccl_ranks(2, [](backend& be, nccl_communicator& comm) {
    if (comm.rank() == 1) throw std::runtime_error("gone");
    matrix<float, backend> m(be, 4, 1);
    comm.all_reduce(be, m.view().data, 4);
    return std::vector<double>();
  });
  CHECK_THAT(all[0].error, Catch::Contains("ncclAllReduce: status is 6"));
}

TEST_CASE("a communicator of NCCL can be borrowed", "[nccl]") {
  loopback_group(1).run([](loopback_communicator& other) {
    backend be;
    nccl_communicator owner(be, other);
    auto const before = device_double::live_handles();
    { nccl_communicator const borrowed(owner.get()); }
    CHECK(device_double::live_handles() == before);
  });
}

TEST_CASE("what fails before a meeting by NCCL is told at the next one", "[nccl]") {
  auto const all = test::on_nccl_ranks(2, [](backend& be, nccl_communicator& comm) {
    together(be, comm, [&] {
      if (comm.rank() == 1) raise<state_error>("a test", "rank 1", "broken", "whole");
      agree(be, comm, "rank 0's work");
    });
    return std::vector<double>();
  });
  for (auto const& one : all) CHECK(one.error == all[0].error);
  CHECK_THAT(all[0].error, Catch::Contains("rank 1 of 2: a test: rank 1 is broken"));
}
