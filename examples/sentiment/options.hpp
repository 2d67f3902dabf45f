#pragma once
#include "../data/text_set.hpp"
#include "records.hpp"

namespace sentiment {

using data_sets = std::map<std::string, data::text_parts>;
using job = std::function<void(laboratory const&)>;

struct options {
  std::string model = "build/minilm", data = "build/vader", out = "out/sentiment", device = "cpu", plan, results;
  std::vector<std::string> methods{"full", "lora", "lora-ga"}, sets{"movie"};
  std::vector<std::uint64_t> seeds{1};
  train_spec run;  // rate, ratio and gamma 0: each method's own
  index_t checkpoint_every = 50;
  int threads = 0;
  bool fresh = false;
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

/// errors  value_error naming the sets there are
inline data::text_parts const& find_set(data_sets const& sets, std::string const& name) {
  auto const found = sets.find(name);
  std::string names;
  for (auto const& s : sets) names += (names.empty() ? "" : ", ") + s.first;
  if (found == sets.end()) loraga::raise<loraga::value_error>("find_set", "set", "'" + name + "'", "one of " + names);
  return found->second;
}

}  // namespace sentiment
