// perf SECTION [--scale N] [--seconds S] [--profiled]: one section of the measurements on a GPU, as lines of JSON.
// perf --list: their names. Exit code 77 where there is no GPU.
#include <cstdio>
#include <cstring>
#include <exception>

#include "run.cuh"

namespace perf {

std::vector<section> const& sections() {
  static std::vector<section> const all = {
      {"ceilings", ceilings},
      {"eigenproblems", eigenproblems},
      {"adapters", adapters},
      {"optimisers", optimisers},
      {"initialise_7b", initialise_7b},
      {"factorisations", factorisations},
      {"passes", passes},
      {"grams", grams},
      {"estimates", estimates},
      {"initialise_8b", initialise_8b},
      {"offloaded", offloaded},
  };
  return all;
}

}  // namespace perf

int main(int argc, char** argv) try {
  perf::settings how;
  std::string wanted;
  for (int i = 1; i < argc; ++i) {
    std::string const word = argv[i];
    if (word == "--list") {
      for (auto const& s : perf::sections()) std::puts(s.name);
      return 0;
    }
    if (word == "--scale" && i + 1 < argc) how.scale = std::stol(argv[++i]);
    else if (word == "--seconds" && i + 1 < argc) how.seconds = std::stod(argv[++i]);
    else if (word == "--profiled") how.profiled = true;
    else wanted = word;
  }
  if (how.scale > 1) how.seconds = 0;  // a rehearsal's times say nothing
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("skipped: there is no GPU");
    return 77;
  }
  for (auto const& s : perf::sections()) {
    if (wanted != s.name) continue;
    perf::backend be;
    s.run(be, how);
    return 0;
  }
  std::fprintf(stderr, "perf: there is no section \"%s\"; --list names them\n", wanted.c_str());
  return 2;
} catch (std::exception const& failure) {
  std::fprintf(stderr, "perf: %s\n", failure.what());
  return 1;
}
