#pragma once
#include "../training/comparison.hpp"

namespace sentiment {

using training::index_t;

struct options : training::comparison_options {
  std::string model = "build/minilm";
  options();
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace sentiment
