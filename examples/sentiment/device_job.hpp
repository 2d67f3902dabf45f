#pragma once
#include "../data/text_set.hpp"
#include "../model/bert_checkpoint.hpp"
#include "../training/device_job.hpp"
#include "options.hpp"

namespace sentiment {

using data_sets = std::map<std::string, data::text_parts>;

/// errors  value_error naming the sets there are
inline data::text_parts const& find_set(data_sets const& sets, std::string const& name) {
  auto const found = sets.find(name);
  std::string names;
  for (auto const& s : sets) names += (names.empty() ? "" : ", ") + s.first;
  if (found == sets.end()) loraga::raise<loraga::value_error>("find_set", "set", "'" + name + "'", "one of " + names);
  return found->second;
}

/// Reads the pre-trained weights, then lets `work` ask for runs.
template <class B>
void run_job(options const& o, data_sets const& sets, training::backend_maker<B> const& make,
             training::job const& work) {
  using encoder = model::text_encoder<B>;
  auto const shape = model::read_bert_shape(o.model);
  auto const weights = [&] {
    auto const be = make(1);
    encoder m(*be, shape);
    return model::read_bert(o.model, m);
  }();
  auto const task_of = [&](std::string const& set) {
    return training::task<encoder, data::text_set>{.shape = shape, .weights = &weights, .data = &find_set(sets, set)};
  };
  work(training::laboratory_on(make, task_of));
}

/// run_job for loraga::cuda, compiled by nvcc.
void run_job_on_cuda(options const& o, data_sets const& sets, training::job const& work);

}  // namespace sentiment
