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

/// The share of the labels of `all` that those of `mine` are: what a mean over `mine` weighs in a mean over `all`.
template <class S>
double weight_of(S const& set, std::vector<index_t> const& mine, std::vector<index_t> const& all) {
  auto const labels = [&](std::vector<index_t> const& items) {
    if constexpr (requires { set.labels(items); }) return static_cast<double>(set.labels(items));
    else return static_cast<double>(items.size());
  };
  return labels(mine) / labels(all);
}

/// Runs the model over the sample, backward too if `learn`, without training anything.
template <class B, class M, class S, class R>
void run_sample(B& be, M& m, S const& set, sample_size sample, loraga::random_stream stream, bool learn,
                R const& ranks) {
  auto const tensors = m.tensors();
  std::vector<bool> before;
  for (auto* t : tensors) before.push_back(std::exchange(t->trainable, false));
  data::sampler order(set.count(), stream);
  typename S::template buffer<B> buffer;
  auto const weigh = [layers = m.linears()](double weight) {
    for (auto* l : layers) l->watch_weight = weight;
  };
  for (index_t i = 0; i < sample.batches; ++i) {
    auto const all = order.draw(sample.batch);
    auto const& mine = ranks.share(all);
    if (mine.empty()) continue;
    weigh(weight_of(set, mine, all));
    m.run(be, buffer.pick(be, set, mine), learn);
  }
  weigh(1);
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i]->trainable = before[i];
}

/// Mean gradients of all linear layers' weights, in accumulators of class G.
template <class G, class B, class M, class S, class R = one_process>
std::vector<G> estimate_gradients(B& be, M& m, S const& set, sample_size sample, loraga::random_stream stream,
                                  R const& ranks = {}) {
  std::vector<G> all;
  auto const layers = m.linears();
  for (auto* l : layers) all.emplace_back(be, l->out(), l->in());
  for (std::size_t i = 0; i < layers.size(); ++i)
    if constexpr (std::is_same_v<G, loraga::sign_gradient<B>>) layers[i]->watcher = &all[i].gradient();
    else layers[i]->watcher = &all[i];
  run_sample(be, m, set, sample, stream, true, ranks);
  for (auto* l : layers) l->watcher = nullptr;
  ranks.combine(be, all);
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
/// errors  value_error where batches are divided by their peaks, which no rank of several knows alone
template <class B, class M, class S, class R = one_process>
inputs<B> collect_inputs(B& be, M& m, S const& set, train_spec const& s, loraga::input_options options,
                         R const& ranks = {}) {
  if (options.by_peak && ranks.size() > 1)
    loraga::raise<loraga::value_error>(
        "training", "ranks", std::to_string(ranks.size()),
        "1 for method '" + s.method + "', which divides batches by their largest inputs");
  inputs<B> all;
  auto const layers = m.linears();
  for (auto* l : layers) all.emplace_back(be, l->in(), options);
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i]->listener = &all[i];
  run_sample(be, m, set, s.sample, {s.seed, 1000}, false, ranks);
  for (auto* l : layers) l->listener = nullptr;
  ranks.combine(be, all);
  return all;
}

}  // namespace training
