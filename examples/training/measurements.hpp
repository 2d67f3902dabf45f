#pragma once
#include <limits>

#include "trainer.hpp"

// What is measured of gradients and first steps at the pre-trained weights.

namespace training {

/// The mean gradient's coverage, spectrum and likeness to another sample's, layer by layer.
template <class B, class M, class S>
std::vector<gradient_layer> measure_gradient(B& be, task<M, S> const& t, gradient_spec const& s) {
  M m(be, t.shape);
  set_up(be, m, t, s.seed);
  auto const all = estimate_gradients<loraga::dense_gradient<B>>(be, m, t.data->train, s.sample, {s.seed, 1000});
  gradients<B> other;
  if (s.against.batches > 0)
    other = estimate_gradients<loraga::dense_gradient<B>>(be, m, t.data->train, s.against, {s.seed, 3000});
  std::vector<gradient_layer> rows;
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    gradient_layer row{layers[i]->weight.name, layers[i]->out(), layers[i]->in(), {}, {}};
    index_t const least = std::min(row.out, row.in);
    if (s.spectra || !s.ranks.empty()) {
      auto const triplets = all[i].top(be, loraga::gram{}, least);
      for (index_t const r : s.ranks) row.coverage.push_back(loraga::coverage(be, triplets, 0, std::min(2 * r, least)));
      if (s.spectra) row.spectrum = loraga::read_all(be, triplets[0].s);
    }
    if (!other.empty()) {
      loraga::matrix<float, B> a(be, row.out, row.in), b(be, row.out, row.in);
      loraga::axpby(be, 1 / all[i].weight(), all[i].sum(), 0.0, a.view());
      loraga::axpby(be, 1 / other[i].weight(), other[i].sum(), 0.0, b.view());
      row.sign_similarity = loraga::sign_similarity(be, a.view(), b.view());
      row.magnitude_similarity = loraga::magnitude_similarity(be, a.view(), b.view());
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

/// The first update of each layer's W + s*B*A, against the gradient of another sample of the training items.
template <class B, class M, class S>
first_update measure_first_update(B& be, task<M, S> const& t, train_spec s) {
  auto const& items = t.data->train;
  loraga::random_stream const fresh{s.seed, 3000};
  M before(be, t.shape), after(be, t.shape);
  set_up(be, before, t, s.seed);
  auto const gradients = estimate_gradients<loraga::dense_gradient<B>>(be, before, items, s.sample, fresh);
  s.warmup = 0;
  trainer run(be, t, s);
  run.start();

  first_update result;
  auto const layers = run.model().linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto& adapter = layers[i]->adapter;
    auto* const ad = adapter.template get<loraga::lora<float, B>>();
    if (!ad) {  // full fine-tuning's SGD step is the gradient
      result.sgd.push_back(adapter ? std::numeric_limits<double>::quiet_NaN() : 1);
      continue;
    }
    auto const best = gradients[i].top(be, loraga::gram{}, std::min({2 * ad->rank(), ad->out(), ad->in()}));
    result.sgd.push_back(loraga::first_step_alignment(be, gradients[i].sum(), ad->a(), ad->b(), best).cosine);
  }

  run.zero_gradients();
  data::sampler sample(items.count(), fresh);
  for (index_t i = 0; i < s.sample.batches; ++i) run.learn(sample.draw(s.sample.batch));
  copy_merged(be, run.model(), before);
  run.step();
  copy_merged(be, run.model(), after);
  auto const old = before.linears(), now = after.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    loraga::axpby(be, -1.0, old[i]->w(), 1.0, now[i]->w());
    result.adamw.push_back(-loraga::cosine(be, now[i]->w(), gradients[i].sum()));
  }
  return result;
}

}  // namespace training
