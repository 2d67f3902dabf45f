#pragma once
#include "records.hpp"

namespace finetune {

struct options {
  std::string data = "data", cache = "cache", out = "out/finetune", rates, device = "cpu";
  settings run;
  std::vector<std::uint64_t> seeds{1, 2, 3};
  double rate = 1e-3;
  std::vector<method> methods;
  std::vector<std::string> panels{"a", "b", "c"};
  int threads = 0;
  bool sweeping = false;
  index_t pretrain_steps = 500, held_out_images = 2000, validation_images = 2000;
  std::uint64_t validation_seed = 100;
  std::vector<double> grid{3e-4, 1e-3, 3e-3, 1e-2, 3e-2};
};

/// The command line's options, checked. Ends the program after --help or a word that is no option.
options parse_options(int argc, char** argv);

}  // namespace finetune
