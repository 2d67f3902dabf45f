#pragma once
#include <functional>
#include <vector>

#include "methods.hpp"

// What passes between plans and reports, which know JSON and no backend, and a device, which trains and measures.

namespace training {

struct train_record {
  index_t trainable = 0, n_train = 0, n_test = 0;
  double init_seconds = 0, seconds = 0, accuracy = 0, loss = 0;  // accuracy and loss of the whole part
  std::int64_t init_peak_bytes = 0, training_peak_bytes = 0;     // beyond the model's, activations included
  std::vector<index_t> steps = {};
  std::vector<double> losses = {}, accuracies = {};  // on the part's first items, at `steps`
  std::vector<double> train_losses = {};             // per step

  /// First evaluation at or below `target`; -1 if there is none.
  index_t steps_to(double target) const {
    for (std::size_t i = 0; i < losses.size(); ++i)
      if (losses[i] <= target) return steps[i];
    return -1;
  }
};

/// f(name, value) for all of it, in the order of results: the one place that lists it.
template <class R, class F>
void for_each_field(R& r, F const& f) requires std::is_same_v<std::remove_const_t<R>, train_record> {
  f("trainable", r.trainable);
  f("n_train", r.n_train);
  f("n_test", r.n_test);
  f("init_seconds", r.init_seconds);
  f("init_peak_bytes", r.init_peak_bytes);
  f("training_peak_bytes", r.training_peak_bytes);
  f("seconds", r.seconds);
  f("steps", r.steps);
  f("losses", r.losses);
  f("accuracies", r.accuracies);
  f("train_losses", r.train_losses);
  f("accuracy", r.accuracy);
  f("loss", r.loss);
}

/// One measurement of a set's mean gradient at the pre-trained weights.
struct gradient_spec {
  std::string set;
  std::uint64_t seed = 1;
  sample_size sample = {}, against{0, 0};  // against.batches = 0: no comparison
  std::vector<index_t> ranks;
  bool spectra = false;
};

struct gradient_layer {
  std::string name;
  index_t out, in;
  std::vector<double> coverage;  // at 2r triplets, per rank
  std::vector<float> spectrum;
  double sign_similarity = 0, magnitude_similarity = 0;
};

/// Cosine of a method's first update of each layer with minus the gradient of a fresh sample: as SGD would take it from
/// A and B alone (NaN for adapters that are not plain LoRA), and as the optimiser of the runs takes it.
struct first_update {
  std::vector<double> sgd, adamw;
};

/// Where a run keeps its state, if anywhere, and every how many steps it is written.
struct checkpointing {
  std::string path;
  index_t every = 100;
};

struct progress {
  index_t step, steps;
  double loss;  // of the last evaluation
};
using listener = std::function<void(progress const&)>;

/// What plans and reports ask of a device. Calls may come from several threads; each run works on `threads` of its own.
struct laboratory {
  std::function<train_record(train_spec const&, checkpointing const&, int threads, listener const&)> train;
  std::function<std::vector<gradient_layer>(gradient_spec const&, int threads)> gradient;
  std::function<first_update(train_spec const&, int threads)> first_step;
};
/// What is done with a device, once data and model are there.
using job = std::function<void(laboratory const&)>;

}  // namespace training
