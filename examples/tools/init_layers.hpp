#pragma once
#include <loraga/cpu.hpp>
#include <loraga/io/adapter_record.hpp>

#include "captures.hpp"
#include "init_options.hpp"

// One layer's start, whatever the method.

namespace tools {

/// What one layer is started from, all on disk.
struct layer_sources {
  base_model const& base;
  captured_files const* gradients;
  captured_files const* inputs;
  capture gradient, input;
};

/// A layer's W from its file: that itself, or a copy in `memory`.
inline matrix_view<float const, host_space> weight_of(cpu& be, base_model const& base, target const& t,
                                                      matrix<float, cpu>& memory) {
  auto const w = float_view(be, base[t.place.weight], memory);
  return t.is_transposed() ? w.transposed() : w;
}

/// errors  as the initialiser's check: rank and s must suit the method and the layer
void check_start(init_options const& o, target const& t, index_t rank, double scale);

/// The started adapter, rounded to what its files will hold; LoRA-SB's as the LoRA it is. `coverage` is set where
/// something was factored.
adapter_record start_layer(cpu& be, init_options const& o, target const& t, index_t rank, double scale,
                           layer_sources const& from, double& coverage);

}  // namespace tools
