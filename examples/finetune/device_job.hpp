#pragma once
#include <map>
#include <memory>

#include "alignment.hpp"
#include "checkpoint.hpp"
#include "jobs.hpp"
#include "options.hpp"

namespace finetune {

/// A backend with up to so many threads of its own, where it has any.
template <class B>
using backend_maker = std::function<std::unique_ptr<B>(int threads)>;

/// Does every planned run on the board, each on its worker's backend.
template <class B>
std::vector<run_record> run_all(job_board& board, backend_maker<B> const& make, task<B> const& t, settings const& s,
                                std::vector<planned_run> const& runs) {
  std::vector<run_record> records(runs.size());
  std::vector<std::unique_ptr<B>> backends;
  for (int i = 0; i < board.threads(); ++i) backends.push_back(make(1));
  board.run(runs.size(), [&](std::size_t i, int worker) {
    auto const& [how, rate, seed] = runs[i];
    char name[96];
    std::snprintf(name, sizeof name, "%s rate %.0e seed %llu", how.name.c_str(), rate,
                  static_cast<unsigned long long>(seed));
    records[i] = fine_tune(*backends[static_cast<std::size_t>(worker)], t, how, rate, seed, s,
                           [&](index_t step, double loss) { board.update(name, step, loss); });
    char end[32];
    std::snprintf(end, sizeof end, ": loss %.3f", records[i].final_loss());
    board.finished(name + std::string(end));
  });
  return records;
}

template <class B>
first_updates measure_first_updates(B& be, task<B> const& t, settings const& s, std::uint64_t seed,
                                    std::vector<method> const& methods) {
  first_updates result{measure_coverage(be, t, s, seed), {}};
  for (auto const& m : methods) result.methods.push_back(measure_alignment(be, t, m, s, seed));
  return result;
}

template <class B>
void print_plan(B& be, task<B> const& t, options const& o) {
  std::printf("fine-tuning to classes 5-9: %lld steps of %lld images, %lld training images, rank",
              static_cast<long long>(o.run.steps), static_cast<long long>(o.run.batch),
              static_cast<long long>(t.training->count()));
  std::map<index_t, int> ranks;
  model::vision_transformer<B> m(be, t.shape);
  for (auto* l : m.linears()) ++ranks[capped_rank(*l, o.run.rank)];
  for (auto const& [r, n] : ranks) std::printf(" %lld (%d layers)", static_cast<long long>(r), n);
  std::printf(", alpha %g, %d runs side by side on %s\n", o.run.alpha, o.threads, o.device.c_str());
}

/// The main job on a device: brings pre-trained model and data there, then lets `write` ask for runs and measurements.
template <class B>
void run_job(options const& o, backend_maker<B> const& make, report const& write) {
  auto const own = make(o.threads);
  B& be = *own;
  model::vision_transformer_shape const shape;
  auto const checkpoint = cached_checkpoint(be, shape, o.data, o.cache, o.pretrain_steps);

  auto const everything = data::read_fashion_mnist(o.data, "train", 5, 9);
  index_t const for_training = everything.count() - o.validation_images;
  data::device_set<B> const training(be, everything.slice(0, for_training));
  data::device_set<B> const validation(be, everything.slice(for_training, o.validation_images));
  data::device_set<B> const test(be, data::read_fashion_mnist(o.data, "t10k", 5, 9));
  task<B> const t{shape, checkpoint, &training, o.sweeping ? &validation : &test,
                  o.sweeping ? o.validation_images : o.held_out_images};
  print_plan(be, t, o);

  job_board board(o.threads);
  write({[&](settings const& s, std::vector<planned_run> const& runs) { return run_all(board, make, t, s, runs); },
         [&](std::vector<method> const& methods) {
           return measure_first_updates(*make(1), t, o.run, o.seeds.front(), methods);
         }});
}

/// run_job for loraga::cuda, compiled by nvcc.
void run_job_on_cuda(options const& o, report const& write);

}  // namespace finetune
