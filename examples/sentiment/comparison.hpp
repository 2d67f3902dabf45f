#pragma once
#include "options.hpp"

namespace sentiment {

/// The main job: every method on every set and seed. Results go to results.jsonl in the output folder as they come and
/// are not computed twice; then a table, summary.json and curves.csv.
/// errors  runtime_error if the folder holds one of these runs with other options, before anything runs
void compare(training::laboratory const& lab, options const& o);

}  // namespace sentiment
