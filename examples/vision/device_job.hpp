#pragma once
#include <map>

#include "../model/convolutional_network.hpp"
#include "../model/vision_transformer.hpp"
#include "../training/device_job.hpp"
#include "options.hpp"
#include "pre_training.hpp"

namespace vision {

template <class M, class B>
void print_plan(B& be, training::task<M, data::device_set<B>> const& t, options const& o) {
  std::printf("fine-tuning to classes 5-9: %lld steps of %lld images, %lld training images, rank",
              static_cast<long long>(o.run.steps), static_cast<long long>(o.run.batch),
              static_cast<long long>(t.data->train.count()));
  std::map<index_t, int> ranks;
  M m(be, t.shape);
  for (auto* l : m.linears()) ++ranks[std::min(o.run.rank, training::most_rank(*l))];
  for (auto const& [r, n] : ranks) std::printf(" %lld (%d layers)", static_cast<long long>(r), n);
  std::printf(", alpha %g, %d runs side by side on %s\n", o.run.alpha, o.threads, o.device.c_str());
}

/// Brings pre-trained model and data of the classes 5 to 9 to a device, then lets `work` ask for runs.
template <class M, class B>
void run_with(options const& o, training::backend_maker<B> const& make, training::job const& work) {
  using set = data::device_set<B>;
  auto const own = make(o.threads);
  B& be = *own;
  typename M::shape_type const shape;
  auto const weights = pre_trained<M>(be, shape, o.data, o.cache, o.pretrain_steps);
  auto const everything = data::read_fashion_mnist(o.data, "train", 5, 9);
  index_t const for_training = everything.count() - o.validation_images;
  data::parts<set> const parts{set(be, everything.slice(0, for_training)),
                               set(be, everything.slice(for_training, o.validation_images)),
                               set(be, data::read_fashion_mnist(o.data, "t10k", 5, 9))};
  training::task<M, set> const t{.shape = shape,
                                 .weights = &weights,
                                 .data = &parts,
                                 .curve_items = o.held_out_images,
                                 .merged = true,
                                 .layer_seeds = true};
  print_plan(be, t, o);
  auto const task_of = [&](std::string const&) -> auto const& { return t; };
  work(training::laboratory_on(make, task_of));
}

template <class B>
void run_job(options const& o, training::backend_maker<B> const& make, training::job const& work) {
  if (o.model == "convolution") run_with<model::convolutional_network<B>>(o, make, work);
  else run_with<model::vision_transformer<B>>(o, make, work);
}

/// run_job for loraga::cuda, compiled by nvcc.
void run_job_on_cuda(options const& o, training::job const& work);

}  // namespace vision
