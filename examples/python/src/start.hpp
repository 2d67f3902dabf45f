#pragma once
#include <tools/init_options.hpp>

#include "estimate.hpp"

namespace python {

/// A layer to start, and what it is started from.
struct layer_request {
  std::string module;
  std::optional<input_array> weight;  ///< to be read
  estimate* gradient = nullptr;
  python::inputs* statistics = nullptr;
  index_t out = 0, in = 0, rank = 0;
  double scale = 0;
  std::uint64_t number = 0;  ///< among all layers of a call: separates their random numbers
};

/// A and B, row by row; and how much of what was factored their directions hold, NaN where nothing was.
template <class T>
struct started_layer {
  std::vector<T> a, b;  // r x in, out x r
  double coverage = NAN;
};

/// Makes A and B as the method says; changes nothing else.
/// errors  as `initialise`, naming the layer
template <class T>
started_layer<T> start_layer(cpu& be, tools::init_options const& o, layer_request const& from);

}  // namespace python
