#pragma once
#include <loraga/cpu.hpp>
#include <loraga/distributed/mpi.hpp>

#include "../training/ranks.hpp"
#include "../training/spec_json.hpp"
#include "../training/statistics.hpp"
#include "../training/trainer.hpp"
#include "options.hpp"

namespace ranks {

using communicator = loraga::counted_communicator<loraga::mpi_communicator>;
using training::json;

/// Of all ranks: the longest time, the mean number of bytes.
struct measured {
  double start_seconds, training_seconds, start_bytes, training_bytes;
};
inline measured over_ranks(loraga::cpu& be, communicator& comm, measured const& mine) {
  measured all{};
  for (auto const& text : loraga::agree(be, comm, "what was measured", {}, loraga::detail::packed(std::vector{mine}))) {
    auto const theirs = loraga::detail::unpacked<measured>(text).at(0);
    all.start_seconds = std::max(all.start_seconds, theirs.start_seconds);
    all.training_seconds = std::max(all.training_seconds, theirs.training_seconds);
    all.start_bytes += theirs.start_bytes / comm.size();
    all.training_bytes += theirs.training_bytes / comm.size();
  }
  return all;
}

/// One run on all ranks, from its start on, or from the state that another number of ranks left.
/// returns  what it came to, for OUT/ranks-N.json
template <class M, class S>
json train(loraga::cpu& be, communicator& comm, training::task<M, S> const& task, training::train_spec const& s,
           std::string const& example, options const& o) {
  training::checkpointing keep{.path = "", .every = o.checkpoint_every};
  if (keep.every > 0) keep.path = o.out + "/" + example + "-" + s.method + ".safetensors";
  comm.count = {};
  auto start = comm.count;
  training::trainer run(be, task, s, training::rank_group(comm));
  auto const r = run.run(keep, [&](training::progress const& p) {
    if (p.step == 0) start = comm.count;
    std::printf("  %s, %s, step %lld of %lld: loss %.4f\n", example.c_str(), s.method.c_str(),
                static_cast<long long>(p.step), static_cast<long long>(p.steps), p.loss);
    std::fflush(stdout);
  });
  auto const traffic = comm.count;
  auto const m =
      over_ranks(be, comm, {r.init_seconds, r.seconds - r.init_seconds, start.sent, traffic.sent - start.sent});
  if (!keep.path.empty() && comm.rank() == 0) std::filesystem::remove(keep.path);
  return {{"example", example},
          {"method", s.method},
          {"seed", s.seed},
          {"trainable", r.trainable},
          {"steps", r.steps},
          {"losses", r.losses},
          {"accuracies", r.accuracies},
          {"train_losses", r.train_losses},
          {"loss", r.loss},
          {"seconds", {{"start", m.start_seconds}, {"training", m.training_seconds}}},
          {"bytes_sent", {{"start", m.start_bytes}, {"training", m.training_bytes}}},
          {"messages", {{"start", start.messages}, {"training", traffic.messages - start.messages}}},
          {"meetings", {{"start", start.meetings}, {"training", traffic.meetings - start.meetings}}}};
}

/// All methods of an example.
std::vector<json> vision_runs(loraga::cpu& be, communicator& comm, options const& o);
std::vector<json> language_runs(loraga::cpu& be, communicator& comm, options const& o);

/// The spec of a method, with what both examples have in common.
inline training::train_spec spec_of(options const& o, std::string const& method) {
  training::train_spec s;
  s.rate = s.ratio = s.gamma = 0;
  s.rank = o.rank;
  s.seed = o.seed;
  return training::spec_of(s, method);
}

}  // namespace ranks
