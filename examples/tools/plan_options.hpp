#pragma once
#include <filesystem>
#include <loraga/io/file.hpp>

#include "plan_formulas.hpp"
#include "plan_shapes.hpp"

namespace tools {

/// What loraga_plan is to say.
struct plan_options {
  plan::model_shapes model;
  plan::settings settings;
  plan::machine machine;
  std::vector<int> ranks;
  std::vector<plan::accumulator> accumulators;
  std::filesystem::path json, plot;
  bool measure = false;
  int threads = 0;  ///< of what is measured; 0: one per core
  overwrite may_replace = overwrite::no;
};

/// The command line's options, with the model's shapes.
/// errors  CLI::ParseError, value_error, and those of files
plan_options read_plan_options(int argc, char const* const* argv);
/// The same. Ends the program after --help and --version, and with 2 if they are wrong.
plan_options parse_plan_options(int argc, char const* const* argv);

}  // namespace tools
