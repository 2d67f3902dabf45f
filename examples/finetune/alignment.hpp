#pragma once
#include "trainer.hpp"

namespace finetune {

template <class B>
std::vector<layer_coverage> measure_coverage(B& be, task<B> const& t, settings const& s, std::uint64_t seed) {
  model::vision_transformer<B> m(be, t.shape);
  prepare(be, m, t, {"full", start::full}, s, seed);
  auto const gradients = estimate_gradients(be, m, *t.training, s, {seed, 1000});
  auto const layers = m.linears();
  std::vector<layer_coverage> rows;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = *layers[i];
    index_t const r = capped_rank(l, s.rank);
    auto const all = gradients[i].top(be, loraga::gram{}, std::min(l.out(), l.in()));
    rows.push_back({l.weight.name, l.out(), l.in(), r, loraga::coverage(be, all, 0, 2 * r),
                    loraga::effective_rank(loraga::read_all(be, all[0].s))});
  }
  return rows;
}

/// The first update of each layer's W + s*B*A, by SGD (from A and B alone) and by the optimiser the runs use, against
/// the gradient of another sample of the training images.
template <class B>
method_alignment measure_alignment(B& be, task<B> const& t, method const& how, settings const& s, std::uint64_t seed) {
  model::vision_transformer<B> m(be, t.shape), before(be, t.shape), after(be, t.shape);
  prepare(be, m, t, {"full", start::full}, s, seed);
  loraga::random_stream const fresh{seed, 3000};
  auto const gradients = estimate_gradients(be, m, *t.training, s, fresh);
  prepare(be, m, t, how, s, seed);

  method_alignment result{how.name, {}, {}};
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto* const ad = layers[i]->adapter.template get<loraga::lora<float, B>>();
    if (!ad) {
      result.sgd.push_back(1);  // full fine-tuning's SGD step is the gradient
      continue;
    }
    auto const best = gradients[i].top(be, loraga::gram{}, std::min({2 * ad->rank(), ad->out(), ad->in()}));
    result.sgd.push_back(loraga::first_step_alignment(be, gradients[i].sum(), ad->a(), ad->b(), best).cosine);
  }

  optimiser<B> opt(be, {.total = s.steps});
  add_parameters(be, opt, m, how, 1e-3);
  zero_gradients(be, m);
  data::sampler sample(t.training->count(), fresh);
  data::batch_buffer<B> buffer;
  for (index_t i = 0; i < s.sample_batches; ++i) {
    auto const batch = buffer.pick(be, *t.training, sample.draw(s.sample_batch));
    m.run(be, batch.images, batch.labels, true);
  }
  copy_merged(be, m, before);
  opt.step(be);
  copy_merged(be, m, after);
  auto const old = before.linears(), now = after.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    loraga::axpby(be, -1.0, old[i]->w(), 1.0, now[i]->w());
    result.adamw.push_back(-loraga::cosine(be, now[i]->w(), gradients[i].sum()));
  }
  return result;
}

}  // namespace finetune
