#pragma once
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "options.hpp"

// Plans and results, both a JSON object per line.
//
// A plan's line has "id" and "kind":
//   "train"     "method", "set", "seed" and, where they differ from train_spec's defaults, "rank", "alpha", "gamma",
//               "lr", "ratio" (LoRA+), "steps" or "epochs", "batch", "directions", "sample_batches", "sample_batch",
//               "evaluate_every", "part" ("test" or "validation": what is evaluated on). The result adds "trainable",
//               "n_train", "n_test", "init_seconds", "init_peak_bytes" and "training_peak_bytes" (most memory the
//               start and the training needed beyond the model, its adapters and the optimiser's state, both with the
//               activations of the batches they ran; counted by operator new on the run's thread), "seconds", "steps",
//               "losses" and "accuracies" (of the part's first 200 snippets), "train_losses" (per step), "accuracy"
//               and "loss" (of the whole part).
//   "gradient"  "set", "seed", "sample_batches", "sample_batch", "ranks", "spectra", and "against": {"sample_batches",
//               "sample_batch"}. The result adds "layers": name, out, in, coverage by rank (at 2r triplets), and
//               spectrum, sign_similarity and magnitude_similarity where asked for; the latter two also on average.
// A result's line has "id", "spec" (the plan's line) and what was measured, or "error".

namespace sentiment {

using json = nlohmann::ordered_json;

/// errors  runtime_error naming what is missing, unknown or of the wrong type
train_spec parse_train(json const& line);
gradient_spec parse_gradient(json const& line);
json train_json(train_spec const& s);

/// One thing to do: a plan's line, and where its state is kept meanwhile, if it shall be.
struct item {
  std::string id, title;
  json spec;
  checkpointing keep;
};

/// A file of results that survives being killed while it is written: a last line without an end is dropped.
class results_file {
  std::string path_;
  std::mutex mutex_;
  std::map<std::string, json> known_;

 public:
  /// errors  runtime_error for a line that is no result
  explicit results_file(std::string const& path);
  std::string const& path() const { return path_; }
  json const* find(std::string const& id) const;
  /// One line, on its way to the disk when this returns. Threads may call it side by side.
  void append(json const& result);
  /// Drops the results of these items; the others stay.
  void forget(std::vector<item> const& items);
};

/// errors  runtime_error naming the item whose result is of another spec, what differs, and what to do: `advice`
void require_same_specs(results_file const& results, std::vector<item> const& items, std::string const& advice);

/// Does every item that has no result yet, `threads` side by side with `each` threads of its own. One that throws has
/// its error as its result; if it has a checkpoint, only divergence is a result, and other errors end the job.
void run_items(laboratory const& lab, std::vector<item> const& items, results_file& results, int threads, int each);

/// The job of --plan.
/// errors  runtime_error naming the line that is no item, whose id another line has, or whose result is of another spec
void run_plan(laboratory const& lab, options const& o);
/// Sets a plan names.
std::set<std::string> sets_of_plan(std::string const& path);

}  // namespace sentiment
