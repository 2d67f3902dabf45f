#pragma once
#include <string>
#include <vector>

#include "layers.hpp"

namespace model {

/// Values of a model's tensors, in the order of `tensors()`, on the host: what models on any backend start from.
using weights = std::vector<std::vector<float>>;

/// The first tensors of a model, as many as there are in w: the last two are the head's, which a new task has anew.
template <class B, class M>
void load(B& be, M& m, weights const& w) {
  auto const tensors = m.tensors();
  for (std::size_t i = 0; i < w.size(); ++i) {
    auto const v = tensors[i]->value.view();
    be.copy(loraga::col_major(w[i].data(), v.rows, v.cols), v);
  }
  be.synchronize();
}

template <class B, class M>
weights save(B& be, M& m) {
  weights w;
  for (auto* t : m.tensors()) w.push_back(loraga::read_all(be, t->value.view()));
  return w;
}

/// "-4-16-64": sizes in a file's name.
inline std::string dashed(std::vector<index_t> const& sizes) {
  std::string text;
  for (index_t const n : sizes) text.append("-").append(std::to_string(n));
  return text;
}

}  // namespace model
