#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <thread>

// What the command lines of the training examples have in common.

namespace finetune {

/// A CLI11 check: what is wrong with the text, or nothing.
inline std::string positive_number(std::string const& text) {
  char* end = nullptr;
  double const x = std::strtod(text.c_str(), &end);
  return *end == 0 && std::isfinite(x) && x > 0 ? std::string() : text + " is not a positive finite number";
}

/// A one-threaded run keeps a CPU core busy; one stream of these small kernels does not fill a GPU.
inline int usual_threads(std::string const& device) {
  return device == "cuda" ? 4 : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}

}  // namespace finetune
