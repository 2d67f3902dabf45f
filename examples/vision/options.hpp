#pragma once
#include "../training/options.hpp"

namespace vision {

using training::index_t;

/// Images that a gradient is averaged over.
inline constexpr training::sample_size usual_sample{8, 64};

struct options : training::options {
  std::string model = "transformer", cache = "cache", rates;
  std::vector<std::string> panels{"a", "b", "c"};
  bool sweeping = false;
  index_t pretrain_steps = 500, held_out_images = 2000, validation_images = 2000;
  std::uint64_t validation_seed = 100;
  std::vector<double> grid{3e-4, 1e-3, 3e-3, 1e-2, 3e-2};
  options();
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace vision
