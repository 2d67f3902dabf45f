#pragma once
#include <torch/types.h>

#include "../data/fashion_mnist.hpp"

namespace example {

/// Images [count, 1, 28, 28] with their labels.
struct image_tensors {
  torch::Tensor images, labels;

  std::int64_t count() const { return images.size(0); }
  /// The part that `which` names.
  image_tensors at(torch::Tensor const& which) const {
    return {images.index_select(0, which), labels.index_select(0, which)};
  }
  /// The same pictures, turned by 90 degrees.
  image_tensors turned() const { return {images.rot90(1, {2, 3}).contiguous(), labels}; }
};

/// All ten classes of a part ("train" or "t10k").
inline image_tensors read_images(std::string const& folder, std::string const& part) {
  auto set = data::read_fashion_mnist(folder, part, 0, 9);
  auto const n = static_cast<std::int64_t>(set.labels.size());
  return {torch::from_blob(set.images.data(), {n, 1, 28, 28}).clone(),
          torch::from_blob(set.labels.data(), {n}, torch::kLong).clone()};
}

}  // namespace example
