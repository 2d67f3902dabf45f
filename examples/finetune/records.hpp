#pragma once
#include <cstdint>
#include <functional>

#include "methods.hpp"

// What passes between a device, which trains and measures, and the reports, which compare and write: reports know no
// backend, and a device no JSON (which nvcc would take long to compile).

namespace finetune {

using loraga::index_t;

struct planned_run {
  method how;
  double rate;
  std::uint64_t seed;
};

struct run_record {
  std::string method;
  double rate = 0;
  std::uint64_t seed = 0;
  index_t trainable = 0;
  double init_seconds = 0, seconds = 0, accuracy = 0;
  std::vector<index_t> steps;
  std::vector<double> losses;  // on the fixed evaluation images, at `steps`

  double final_loss() const { return losses.back(); }
  /// First evaluation at or below `loss`; -1 if there is none.
  index_t steps_to(double loss) const {
    for (std::size_t i = 0; i < losses.size(); ++i)
      if (losses[i] <= loss) return steps[i];
    return -1;
  }
};

/// How much of a layer's gradient its adapter can see: panel (c), first half.
struct layer_coverage {
  std::string name;
  index_t out, in, rank;
  double coverage, effective_rank;
};

/// Cosine of a method's first update with minus the gradient, over layers: panel (c), second half.
struct method_alignment {
  std::string method;
  std::vector<double> sgd, adamw;  // per layer
};

struct first_updates {
  std::vector<layer_coverage> layers;
  std::vector<method_alignment> methods;
};

/// What reports ask of a device.
struct laboratory {
  std::function<std::vector<run_record>(settings const&, std::vector<planned_run> const&)> fine_tune;
  std::function<first_updates(std::vector<method> const&)> measure;
};
using report = std::function<void(laboratory const&)>;

}  // namespace finetune
