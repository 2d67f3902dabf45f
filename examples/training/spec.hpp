#pragma once
#include <cstdint>
#include <loraga/core/config.hpp>
#include <string>

namespace training {

using loraga::index_t;

/// How many items a gradient is averaged over.
struct sample_size {
  index_t batches = 4, batch = 16;
};

/// One fine-tuning run.
struct train_spec {
  std::string method = {}, set = {}, part = "test", directions = "ArB2r", estimate = "streamed";
  index_t rank = 8;
  double alpha = 16, gamma = 16, rate = 0, ratio = 1;
  std::uint64_t seed = 1;
  index_t steps = 200, epochs = 0, warmup = -1, batch = 16, evaluate_every = 25;
  sample_size sample = {};
  index_t passes = 1;  ///< over the sample of streamed gradients: a second one refines the first
  double settle = 0;   ///< of streamed gradients: enough once two batches turn them by less; 0: take all
};

/// What plans, command lines and checkpoints know of a number or word that decides a run.
struct field {
  char const* name;
  char const* meaning;
  index_t least = 0;       ///< of a whole number
  bool required = false;   ///< in a plan
  bool is_option = true;   ///< of the command line
  bool is_written = true;  ///< where the run is recorded
};

/// f(field, value) for all of them, in the order of records: the one place that lists them.
template <class S, class F>
void for_each_field(S& s, F const& f) {
  f(field{"method", "what is trained, and how it starts", 0, true, false}, s.method);
  f(field{"set", "the data", 0, true, false}, s.set);
  f(field{"part", "what is evaluated on: test or validation", 0, false, false}, s.part);
  f(field{"rank", "rank of the adapters, at most half of a layer's smaller side", 1}, s.rank);
  f(field{"alpha", "alpha of the adapters' scaling"}, s.alpha);
  f(field{"gamma", "LoRA-GA's gamma (default: 16; lora-one: 128)"}, s.gamma);
  f(field{"lr", "learning rate (default: each method's own)"}, s.rate);
  f(field{"ratio", "LoRA+'s ratio (default: 16 for lora+)"}, s.ratio);
  f(field{"seed", "of head, data order and gradient sample", 0, true, false}, s.seed);
  f(field{"steps", "training steps per run", 1, false, true, s.epochs == 0}, s.steps);
  f(field{"epochs", "passes over the training part, instead of steps", 0, false, true, s.epochs > 0}, s.epochs);
  f(field{"warmup", "steps until the full learning rate (default: 3 %)", 0, false, true, s.warmup >= 0}, s.warmup);
  f(field{"batch", "items per step", 1}, s.batch);
  f(field{"directions", "how LoRA-GA deals out singular vectors: ArB2r, A2rBr, ArBr or random"}, s.directions);
  f(field{"sample_batches", "batches that a gradient is averaged over", 1}, s.sample.batches);
  f(field{"sample_batch", "items of each of them", 1}, s.sample.batch);
  f(field{"estimate",
          "gradients for a start: streamed over the sample, or one-shot: the sample's first batch alone, each "
          "layer started from its own gradient within the backward pass",
          0, false, true, s.estimate != "streamed"},
    s.estimate);
  f(field{"passes", "passes over the gradient sample: a second one refines the first", 1, false, true, s.passes > 1},
    s.passes);
  f(field{"settle", "end the sample once the last pieces of two batches turn the directions by less than this (a sine)",
          0, false, true, s.settle > 0},
    s.settle);
  f(field{"evaluate_every", "steps between evaluations", 1}, s.evaluate_every);
}

}  // namespace training
