#pragma once
#include <memory>

#include "../model/bert_checkpoint.hpp"
#include "options.hpp"
#include "trainer.hpp"

namespace sentiment {

/// A backend with up to so many threads of its own, where it has any.
template <class B>
using backend_maker = std::function<std::unique_ptr<B>(int threads)>;

/// The mean gradient's coverage, spectrum and likeness to another sample's, layer by layer.
template <class B>
std::vector<gradient_layer> measure_gradient(B& be, task const& t, gradient_spec const& s) {
  model::text_encoder<B> m(be, t.shape);
  model::load(be, m, *t.weights);
  m.randomise_head(be, {s.seed, 4000});
  auto const all = estimate_gradients<loraga::dense_gradient<B>>(be, m, t.data->train, s.sample, {s.seed, 1000});
  gradients<B> other;
  if (s.against.batches > 0)
    other = estimate_gradients<loraga::dense_gradient<B>>(be, m, t.data->train, s.against, {s.seed, 3000});
  std::vector<gradient_layer> rows;
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& name = layers[i]->weight.name;
    gradient_layer row{name.substr(0, name.rfind('.')), layers[i]->out(), layers[i]->in(), {}, {}};
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

/// Reads the pre-trained weights, then lets `work` ask for runs. Each run has a backend and a model of its own; the
/// weights they start from and the data are shared.
template <class B>
void run_job(options const& o, data_sets const& sets, backend_maker<B> const& make, job const& work) {
  auto const shape = model::read_bert_shape(o.model);
  model::encoder_weights const weights = [&] {
    auto const be = make(1);
    model::text_encoder<B> m(*be, shape);
    return model::read_bert(o.model, m);
  }();
  auto const task_of = [&](std::string const& set) { return task{shape, &weights, &find_set(sets, set)}; };
  work({[&](train_spec const& s, checkpointing const& keep, int threads,
            std::function<void(progress const&)> const& tell) {
          auto const be = make(threads);
          return training<B>(*be, task_of(s.set), s).run(keep, tell);
        },
        [&](gradient_spec const& s, int threads) {
          auto const be = make(threads);
          return measure_gradient(*be, task_of(s.set), s);
        }});
}

/// run_job for loraga::cuda, compiled by nvcc.
void run_job_on_cuda(options const& o, data_sets const& sets, job const& work);

}  // namespace sentiment
