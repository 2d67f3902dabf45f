#pragma once
#include <torch/nn/functional/loss.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>

#include <loraga/cpu.hpp>
#include <loraga/torch/files.hpp>
#include <loraga/torch/modules.hpp>

#include "images.hpp"
#include "network.hpp"

// The part that is about adapters: all of it. The model around it is LibTorch's.

namespace example {

using namespace loraga;
namespace lt = loraga::libtorch;
using plain_network = network<torch::nn::Conv2d, torch::nn::Linear>;
using adapted_network = network<lt::lora_conv2d<>, lt::lora_linear<>>;

inline torch::Tensor loss_of(torch::Tensor const& logits, image_tensors const& batch) {
  return torch::nn::functional::cross_entropy(logits, batch.labels);
}

/// A copy of the network, each of its layers in a module with an adapter of rank 4.
inline adapted_network with_adapters(plain_network const& base) {
  rank_stable_scaling const scaling{.alpha = 8};
  auto const copy = []<class M>(torch::nn::ModuleHolder<M> const& m) {
    return std::dynamic_pointer_cast<M>(m->clone());
  };
  auto const convolution = [&](torch::nn::Conv2d const& m) { return lt::lora_conv2d<>(copy(m), 4, scaling); };
  auto const linear = [&](torch::nn::Linear const& m) { return lt::lora_linear<>(copy(m), 4, scaling); };
  return {convolution(base.first), convolution(base.second), linear(base.body), linear(base.head)};
}

/// Fine-tunes a copy of the network for some steps; `tell` gets every step's loss. LoRA's start, or LoRA-GA's.
template <class Batches, class Tell>
adapted_network fine_tune(plain_network const& base, Batches const& batch, bool lora_ga, double rate, int steps,
                          Tell const& tell) {
  auto net = with_adapters(base);
  if (lora_ga) {
    lt::gradient_collection<incremental_gradient<cpu>> estimate(net, {.rank = 4});
    for (int i = 0; i < 8; ++i) {
      auto const b = batch(1000 + i);
      loss_of(net.forward(b.images), b).backward();
    }
    lt::initialise(estimate, lora_ga_init{.gamma = 64}, in_place_anchor{});
  } else {
    lt::initialise(net, kaiming_init{.seed = 1});
  }
  std::vector<torch::Tensor> trained;
  for (auto const& p : net.parameters())
    if (p.requires_grad()) trained.push_back(p);
  torch::optim::AdamW optimiser(trained, torch::optim::AdamWOptions(rate).weight_decay(0));
  for (int step = 0; step < steps; ++step) {
    auto const b = batch(step);
    auto const loss = loss_of(net.forward(b.images), b);
    optimiser.zero_grad();
    loss.backward();
    optimiser.step();
    tell(step, loss.template item<double>());
  }
  return net;
}

}  // namespace example
