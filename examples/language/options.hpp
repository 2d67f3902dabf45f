#pragma once
#include "../training/comparison.hpp"

namespace language {

using training::index_t;

struct options : training::comparison_options {
  std::string model = "build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
  index_t most_tokens = 256;  // through the model at a time
  index_t longest = 128;      // tokens of a definition
  index_t held_out = 48;      // definitions that are evaluated
  index_t answers = 5;        // held-out terms that are defined before and after
  options();
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace language
