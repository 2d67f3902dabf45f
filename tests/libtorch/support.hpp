#pragma once
#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/container/functional.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/optim/adamw.h>
#include <torch/serialize.h>
#include <torch/types.h>
#include <torch/version.h>

#include <loraga/cpu.hpp>
#include <loraga/torch/conv2d.hpp>
#include <loraga/torch/embedding.hpp>
#include <loraga/torch/files.hpp>
#include <loraga/torch/initialise.hpp>
#include <loraga/torch/linear.hpp>

#include "support/catch.hpp"

// Helpers of these tests alone.
namespace libtorch_tests {

/// The largest difference, over the largest number expected.
inline double relative_error(at::Tensor const& found, at::Tensor const& expected) {
  auto const e = expected.detach().to(at::kDouble), f = found.detach().to(at::kDouble);
  return (f - e).abs().max().item<double>() / e.abs().max().item<double>();
}

/// Writes numbers into A and B, as a user may by torch's own operations.
template <class L>
void fill_factors(L& layer, double size = 0.3) {
  at::NoGradGuard const off;
  layer.lora_a().normal_(0, size);
  layer.lora_b().normal_(0, size);
}

/// Autocast for the CPU's operations, while it lives.
struct autocast_scope {
  static void turn(bool on) {
#if TORCH_VERSION_MAJOR > 2 || (TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR >= 4)
    at::autocast::set_autocast_enabled(at::kCPU, on);
#else
    at::autocast::set_cpu_enabled(on);
#endif
  }
  autocast_scope() { turn(true); }
  ~autocast_scope() {
    turn(false);
    at::autocast::clear_cache();
  }
  autocast_scope(autocast_scope const&) = delete;
  autocast_scope& operator=(autocast_scope const&) = delete;
};

}  // namespace libtorch_tests
