#pragma once
#include <loraga/loraga.hpp>
#include <utility>

#include "../data/sampler.hpp"
#include "task.hpp"

// What starts are measured from: gradients and inputs of all linear layers over a sample of the training part.

namespace training {

template <class B>
using gradients = std::vector<loraga::dense_gradient<B>>;
template <class B>
using inputs = std::vector<loraga::input_statistics<B>>;

/// What the ranks of methods with ranks of their own were found from, kept for their start.
template <class B>
struct measurements {
  training::inputs<B> inputs;
  training::gradients<B> gradients;
};

/// Runs the model over the sample, backward too if `learn`, without training anything.
template <class B, class M, class S>
void run_sample(B& be, M& m, S const& set, sample_size sample, loraga::random_stream stream, bool learn) {
  auto const tensors = m.tensors();
  std::vector<bool> before;
  for (auto* t : tensors) before.push_back(std::exchange(t->trainable, false));
  data::sampler order(set.count(), stream);
  typename S::template buffer<B> buffer;
  for (index_t i = 0; i < sample.batches; ++i) m.run(be, buffer.pick(be, set, order.draw(sample.batch)), learn);
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i]->trainable = before[i];
}

/// Mean gradients of all linear layers' weights, in accumulators of class G.
template <class G, class B, class M, class S>
std::vector<G> estimate_gradients(B& be, M& m, S const& set, sample_size sample, loraga::random_stream stream) {
  std::vector<G> all;
  auto const layers = m.linears();
  for (auto* l : layers) all.emplace_back(be, l->out(), l->in());
  for (std::size_t i = 0; i < layers.size(); ++i)
    if constexpr (std::is_same_v<G, loraga::sign_gradient<B>>) layers[i]->watcher = &all[i].gradient();
    else layers[i]->watcher = &all[i];
  run_sample(be, m, set, sample, stream, true);
  for (auto* l : layers) l->watcher = nullptr;
  return all;
}

/// A random matrix in every gradient's place: the control.
template <class G, class B, class M>
std::vector<G> random_gradients(B& be, M& m, std::uint64_t seed) {
  std::vector<G> all;
  for (auto* l : m.linears()) {
    loraga::scratch<B> temporary(be);
    auto const noise = temporary.template matrix<float>(l->out(), l->in());
    loraga::fill_normal(be, noise, {seed, 2000 + all.size()}, 1);
    all.emplace_back(be, noise.rows, noise.cols);
    all.back().add(be, noise);
  }
  return all;
}

/// Statistics of all linear layers' inputs, over the items the gradient would be estimated from.
template <class B, class M, class S>
inputs<B> collect_inputs(B& be, M& m, S const& set, train_spec const& s, loraga::input_options options) {
  inputs<B> all;
  auto const layers = m.linears();
  for (auto* l : layers) all.emplace_back(be, l->in(), options);
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i]->listener = &all[i];
  run_sample(be, m, set, s.sample, {s.seed, 1000}, false);
  for (auto* l : layers) l->listener = nullptr;
  return all;
}

}  // namespace training
