// The vision and the language example on the ranks that mpirun starts. See examples/run.sh ranks.
#include <iostream>

#include "job.hpp"

namespace {

using namespace ranks;

void run(loraga::cpu& be, communicator& comm, options const& o) {
  if (comm.rank() == 0) std::filesystem::create_directories(o.out);
  else if (!std::freopen("/dev/null", "w", stdout)) throw std::runtime_error("/dev/null cannot be opened");
  json all{{"ranks", comm.size()}, {"threads_per_rank", 1}, {"runs", json::array()}};
  for (auto const& example : o.examples)
    for (auto& one : example == "vision" ? vision_runs(be, comm, o) : language_runs(be, comm, o))
      all["runs"].push_back(std::move(one));
  if (comm.rank() == 0)
    training::write_whole(o.out + "/ranks-" + std::to_string(comm.size()) + ".json", all.dump(1) + '\n');
}

}  // namespace

int main(int argc, char** argv) try {
  auto const o = parse_options(argc, argv);
  loraga::mpi_session const mpi(argc, argv);
  loraga::mpi_communicator ranks;
  communicator comm(ranks);
  loraga::cpu be(1);
  try {
    loraga::together(be, comm, [&] { run(be, comm, o); });
    return 0;
  } catch (std::exception const& failure) {  // the same on all
    if (comm.rank() == 0) std::cerr << "ranks: " << failure.what() << '\n';
    return 1;
  }
} catch (std::exception const& failure) {
  std::cerr << "ranks: " << failure.what() << '\n';
  return 1;
}
