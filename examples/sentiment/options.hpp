#pragma once
#include "../training/options.hpp"

namespace sentiment {

using training::index_t;

struct options : training::options {
  std::string model = "build/minilm";
  std::vector<std::string> sets{"movie"};
  index_t checkpoint_every = 50;
  bool fresh = false;
  options();
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace sentiment
