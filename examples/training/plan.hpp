#pragma once
#include <set>

#include "options.hpp"
#include "results.hpp"

// Plans and results, both a JSON object per line.
//
// A plan's line has "id" and "kind":
//   "train"     "method", "set", "seed" and, where they differ from train_spec's defaults, "rank", "alpha", "gamma",
//               "lr", "ratio" (LoRA+), "steps" or "epochs", "batch", "directions", "sample_batches", "sample_batch",
//               "evaluate_every", "part" ("test" or "validation": what is evaluated on). The result adds "trainable",
//               "n_train", "n_test", "init_seconds", "init_peak_bytes" and "training_peak_bytes" (most memory the
//               start and the training needed beyond the model, its adapters and the optimiser's state, both with the
//               activations of the batches they ran; counted by operator new on the run's thread), "seconds", "steps",
//               "losses" and "accuracies" (of the part's first items), "train_losses" (per step), "accuracy"
//               and "loss" (of the whole part).
//   "gradient"  "set", "seed", "sample_batches", "sample_batch", "ranks", "spectra", and "against": {"sample_batches",
//               "sample_batch"}. The result adds "layers": name, out, in, coverage by rank (at 2r triplets), and
//               spectrum, sign_similarity and magnitude_similarity where asked for; the latter two also on average.
// A result's line has "id", "spec" (the plan's line) and what was measured, or "error".

namespace training {

/// The job of --plan.
/// errors  runtime_error naming the line that is no item, whose id another line has, or whose result is of another spec
void run_plan(laboratory const& lab, options const& o);
/// Sets a plan names.
std::set<std::string> sets_of_plan(std::string const& path);

}  // namespace training
