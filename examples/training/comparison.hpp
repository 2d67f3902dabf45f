#pragma once
#include "options.hpp"

namespace training {

/// A comparison of methods on sets of data.
struct comparison_options : options {
  std::vector<std::string> sets;
  std::vector<double> rates;  ///< of every method; empty: each method's own
  index_t checkpoint_every = 50;
  bool fresh = false;
};

/// The options of a comparison beside add_options'.
void add_comparison_options(CLI::App& app, comparison_options& o);

/// Every method at every rate on every set and seed. Results go to results.jsonl in the output folder as they come and
/// are not computed twice; then a table, summary.json and curves.csv.
/// errors  runtime_error if the folder holds one of these runs with other options, before anything runs
void compare(laboratory const& lab, comparison_options const& o);

}  // namespace training
