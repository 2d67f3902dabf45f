#pragma once
#include <set>

#include "records.hpp"

namespace CLI {
class App;
}

namespace training {

/// What the command lines of the training examples have in common.
struct options {
  std::string data, out, device = "cpu", plan, results;
  std::vector<std::string> methods;
  std::vector<std::uint64_t> seeds{1};
  train_spec run;  // rate, ratio and gamma 0: each method's own
  int threads = 0;
};

/// A CLI11 check: what is wrong with the text, or nothing.
std::string positive_number(std::string const& text);

/// errors  runtime_error naming the option
template <class T>
void require_distinct(char const* option, std::vector<T> const& values) {
  if (std::set<T>(values.begin(), values.end()).size() != values.size())
    throw std::runtime_error(std::string(option) + " takes each once");
}

/// All of these options, and one for every field of a run but those in `own`, which the example adds in its way.
void add_options(CLI::App& app, options& o, std::set<std::string> const& own);

/// Reads the command line and checks it. Ends the program after --help or a word that is no option.
void read_options(CLI::App& app, options& o, int argc, char** argv);

/// Says how a program is built that knows the device it was asked for.
/// errors  runtime_error, always
[[noreturn]] void refuse_device(std::string const& command);

/// A program's main: what `run` throws is printed, and the program fails.
int run_program(char const* name, std::function<void()> const& run);

}  // namespace training
