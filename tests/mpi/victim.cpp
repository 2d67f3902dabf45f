// victim PHASE HOW: a job of several ranks, one of which ends at a phase by being killed, by exit, or by an exception
// that nothing catches. tests/mpi/killed.sh sees that the others end as well.
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <loraga/cpu.hpp>
#include <loraga/distributed.hpp>
#include <loraga/distributed/mpi.hpp>
#include <loraga/io/rank_checkpoint.hpp>

using namespace loraga;

int main(int argc, char** argv) {
  mpi_session const session(argc, argv);
  std::string const phase = argc > 1 ? argv[1] : "", how = argc > 2 ? argv[2] : "", path = argc > 3 ? argv[3] : "";
  mpi_communicator comm;
  cpu be(1);
  auto const reach = [&](char const* name) {
    if (phase != name || comm.rank() != comm.size() - 1) return;
    if (how == "kill") std::raise(SIGKILL);
    if (how == "exit") std::_Exit(3);
    if (how == "throw") throw std::runtime_error("a fault at " + phase);
  };
  auto const job = [&] {
    model_gradient<cpu> estimate(be, std::vector<layer_size>{{30, 20}, {10, 40}}, {.rank = 2});
    matrix<float, cpu> dw(be, 30, 20);
    fill_normal(be, dw.view(), {1, static_cast<std::uint64_t>(comm.rank())}, 1);
    estimate[0].add(be, dw.view());
    reach("combine");
    combine(be, comm, estimate);
    lora<float, cpu> adapter(be, 30, 20, 2, classic_scaling{});
    reach("start");
    initialise(be, adapter, lora_ga_init{}, estimate[0], frozen_pair_anchor{}, over_ranks(comm));
    gradient_average<cpu> average;
    average.add(adapter);
    adapter.zero_gradient(be);
    reach("step");
    average.run(be, comm);
    reach("checkpoint");
    save_rank_checkpoint(be, comm, path, [&](auto& c) { c("adapter", adapter); }, [&](auto& c) { c("own", estimate); });
  };
  if (how == "throw-told") {  // told to the others, who end with the same words
    try {
      together(be, comm, [&] {
        if (comm.rank() == comm.size() - 1) throw std::runtime_error("a fault at " + phase);
        job();
      });
    } catch (rank_error const& failure) {
      std::cout << failure.what() << std::endl;
      return 1;
    }
  }
  job();
  std::cout << "done" << std::endl;
}
