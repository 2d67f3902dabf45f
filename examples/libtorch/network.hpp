#pragma once
#include <torch/nn/functional/activation.h>
#include <torch/nn/module.h>

namespace example {

/// A small convolutional network for 28x28 images; its layers are torch's own, or those with an adapter around them.
template <class Convolution, class Linear>
struct network : torch::nn::Module {
  Convolution first, second;
  Linear body, head;

  network(Convolution a, Convolution b, Linear c, Linear d)
      : first(register_module("first", a)),
        second(register_module("second", b)),
        body(register_module("body", c)),
        head(register_module("head", d)) {}
  torch::Tensor forward(torch::Tensor const& images) {
    auto const h = second->forward(first->forward(images).relu()).relu();
    return head->forward(body->forward(h.flatten(1)).relu());
  }
};

}  // namespace example
