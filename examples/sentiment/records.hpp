#pragma once
#include <cstdint>
#include <functional>
#include <map>

#include "methods.hpp"

// What passes between plans and reports, which know JSON and no backend, and a device, which trains and measures.

namespace sentiment {

/// How many snippets a gradient is averaged over.
struct sample_size {
  index_t batches = 4, batch = 16;
};

/// One fine-tuning run.
struct train_spec {
  std::string method, set, part = "test", directions = "ArB2r";
  index_t rank = 8;
  double alpha = 16, gamma = 16, rate = 0, ratio = 1;
  std::uint64_t seed = 1;
  index_t steps = 200, epochs = 0, batch = 16, evaluate_every = 25;  // epochs, where given, instead of steps
  sample_size sample;
};

struct train_record {
  index_t trainable = 0, n_train = 0, n_test = 0;
  double init_seconds = 0, seconds = 0, accuracy = 0, loss = 0;  // accuracy and loss of the whole part
  std::int64_t init_peak_bytes = 0, training_peak_bytes = 0;     // beyond the model's, activations included
  std::vector<index_t> steps;
  std::vector<double> losses, accuracies;  // on the part's first snippets, at `steps`
  std::vector<double> train_losses;        // per step
};

/// One measurement of a set's mean gradient at the pre-trained weights.
struct gradient_spec {
  std::string set;
  std::uint64_t seed = 1;
  sample_size sample, against{0, 0};  // against.batches = 0: no comparison
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

/// Where a run keeps its state, if anywhere, and every how many steps it is written.
struct checkpointing {
  std::string path;
  index_t every = 100;
};

struct progress {
  index_t step, steps;
  double loss;  // of the last evaluation
};

/// What plans ask of a device. Calls may come from several threads; each run works on `threads` of its own.
struct laboratory {
  std::function<train_record(train_spec const&, checkpointing const&, int threads,
                             std::function<void(progress const&)> const&)>
      train;
  std::function<std::vector<gradient_layer>(gradient_spec const&, int threads)> gradient;
};

}  // namespace sentiment
