#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../training/spec.hpp"

namespace ranks {

using training::index_t;

struct options {
  std::vector<std::string> examples{"vision", "language"}, methods{"lora", "lora-ga"};
  std::string images = "build/fashion-mnist", cache = "build", dictionary = "build/foldoc/foldoc.dict",
              model = "build/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", out = "out/ranks";
  std::uint64_t seed = 1;
  index_t steps = 60, batch = 32;                  // of the vision example
  index_t language_steps = 4, language_batch = 8;  // of the language example
  index_t held_out_images = 500, held_out = 8;     // that are evaluated: images, definitions
  index_t longest = 32;                            // tokens of a definition
  index_t rank = 8;
  index_t checkpoint_every = 0;
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace ranks
