#pragma once
#include <chrono>
#include <functional>

#include "../data/fashion_mnist.hpp"
#include "../model/vision_transformer.hpp"
#include "records.hpp"

namespace finetune {

inline double seconds_since(std::chrono::steady_clock::time_point t) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

/// Values of all tensors, on the host: what the checkpoint holds.
using weights = std::vector<std::vector<float>>;

template <class B>
void load(B& be, model::vision_transformer<B>& m, weights const& w) {
  auto const tensors = m.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto const v = tensors[i]->value.view();
    be.copy(loraga::col_major(w[i].data(), v.rows, v.cols), v);
  }
  be.synchronize();
}

template <class B>
weights save(B& be, model::vision_transformer<B>& m) {
  weights w;
  for (auto* t : m.tensors()) w.push_back(loraga::read_all(be, t->value.view()));
  return w;
}

/// A rank LoRA-GA can use on every layer: 2r singular vectors must exist.
template <class B>
index_t capped_rank(model::linear<B> const& l, index_t rank) {
  return std::max<index_t>(1, std::min(rank, std::min(l.out(), l.in()) / 2));
}

/// Mean gradients of all linear layers' weights over the sample, without training anything.
template <class B>
std::vector<loraga::dense_gradient<B>> estimate_gradients(B& be, model::vision_transformer<B>& m,
                                                          data::device_set<B> const& set, settings const& s,
                                                          loraga::random_stream stream) {
  std::vector<loraga::dense_gradient<B>> gradients;
  auto const layers = m.linears();
  std::vector<bool> before;
  for (auto* t : m.tensors()) {
    before.push_back(t->trainable);
    t->trainable = false;
  }
  for (auto* l : layers) gradients.emplace_back(be, l->out(), l->in());
  for (std::size_t i = 0; i < layers.size(); ++i) layers[i]->watcher = &gradients[i];
  data::sampler sample(set.count(), stream);
  data::batch_buffer<B> buffer;
  for (index_t i = 0; i < s.sample_batches; ++i) {
    auto const batch = buffer.pick(be, set, sample.draw(s.sample_batch));
    m.run(be, batch.images, batch.labels, true);
  }
  for (auto* l : layers) l->watcher = nullptr;
  auto const tensors = m.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i]->trainable = before[i];
  return gradients;
}

/// Gives every linear layer its adapter by the method's policies: what a user of the library writes.
template <class B>
void attach_adapters(B& be, model::vision_transformer<B>& m, method const& how, settings const& s,
                     data::device_set<B> const& training, std::uint64_t seed) {
  using adapter = loraga::lora<float, B>;
  auto const layers = m.linears();
  std::vector<adapter*> adapters;
  for (auto* l : layers) {
    auto const emplace = [&](auto scaling) {
      adapters.push_back(
          &l->adapter.template emplace<adapter>(be, l->out(), l->in(), capped_rank(*l, s.rank), scaling));
    };
    if (how.rank_stable) emplace(loraga::rank_stable_scaling{s.alpha});
    else emplace(loraga::classic_scaling{s.alpha});
  }
  loraga::automatic_svd const svd{.seed = seed};
  if (how.how == start::kaiming) {
    for (std::size_t i = 0; i < layers.size(); ++i)
      loraga::initialise(be, *adapters[i], loraga::kaiming_init{loraga::derive({seed, i}, 0).id});
    return;
  }
  using weight = loraga::matrix_view<float, typename B::space>;
  if (how.how == start::pissa) {
    std::vector<loraga::layer<adapter, weight>> list;
    for (std::size_t i = 0; i < layers.size(); ++i)
      list.push_back({adapters[i], layers[i]->w(), {}, layers[i]->weight.name});
    loraga::initialise(be, std::span<loraga::layer<adapter, weight> const>(list), loraga::pissa_init{}, svd,
                       loraga::in_place_anchor{});
    return;
  }
  std::vector<loraga::dense_gradient<B>> gradients;
  if (how.how == start::gradient) {
    gradients = estimate_gradients(be, m, training, s, {seed, 1000});
  } else {  // the control: a random matrix in the gradient's place
    for (std::size_t i = 0; i < layers.size(); ++i) {
      loraga::scratch<B> temporary(be);
      auto const noise = temporary.template matrix<float>(layers[i]->out(), layers[i]->in());
      loraga::fill_normal(be, noise, {seed, 2000 + i}, 1);
      gradients.emplace_back(be, noise.rows, noise.cols);
      gradients.back().add(be, noise);
    }
  }
  using layer = loraga::layer<adapter, weight, loraga::dense_gradient<B>>;
  std::vector<layer> list;
  for (std::size_t i = 0; i < layers.size(); ++i)
    list.push_back({adapters[i], layers[i]->w(), &gradients[i], layers[i]->weight.name});
  loraga::initialise(be, std::span<layer const>(list), loraga::lora_ga_init{.gamma = how.gamma}, svd,
                     loraga::in_place_anchor{});
}

template <class B>
using optimiser = loraga::adamw<float, B, loraga::cosine_schedule>;

/// Registers what trains: everything for full fine-tuning; else adapters (with the LoRA+ ratio) and the head.
/// Returns the number of trainable parameters.
template <class B>
index_t add_parameters(B& be, optimiser<B>& opt, model::vision_transformer<B>& m, method const& how, double rate) {
  index_t trainable = 0;
  loraga::adamw_group const group{.learning_rate = rate};
  auto const base = opt.add_group(be, group);
  for (auto* t : m.tensors()) {
    t->train(be, how.how == start::full || t == &m.head.weight || t == &m.head.bias);
    if (!t->trainable) continue;
    opt.add(be, base, t->parameter());
    trainable += t->value.rows() * t->value.cols();
  }
  for (auto* l : m.linears()) {
    loraga::add_adapter(be, opt, l->adapter, group, how.ratio);
    trainable += l->adapter.trainable();
  }
  return trainable;
}

template <class B>
void zero_gradients(B& be, model::vision_transformer<B>& m) {
  for (auto* t : m.tensors())
    if (t->trainable) loraga::fill(be, t->gradient.view(), 0);
  for (auto* l : m.linears()) l->adapter.zero_gradient(be);
}

/// The model as it stands, adapters merged into a copy's weights: evaluation then costs what the base model costs.
template <class B>
void copy_merged(B& be, model::vision_transformer<B>& from, model::vision_transformer<B>& to) {
  auto const source = from.tensors(), target = to.tensors();
  for (std::size_t i = 0; i < source.size(); ++i) be.copy(source[i]->value.view(), target[i]->value.view());
  auto const adapted = from.linears(), plain = to.linears();
  for (std::size_t i = 0; i < adapted.size(); ++i) adapted[i]->adapter.add_change(be, plain[i]->w());
}

/// Loss sum and hits over items first ... first+n-1.
template <class B>
model::loss_result evaluate(B& be, model::vision_transformer<B>& m, data::device_set<B> const& set, index_t first,
                            index_t n) {
  // the activations of few images stay in a CPU core's own cache; a GPU needs many to be busy
  index_t const chunk = std::is_same_v<typename B::space, loraga::host_space> ? 10 : 500;
  model::loss_result total;
  for (index_t i = first; i < first + n; i += chunk) {
    auto const batch = set.range(i, std::min(chunk, first + n - i));
    total += m.run(be, batch.images, batch.labels, false);
  }
  return total;
}

/// What all runs share: the pre-trained model and the data of the new task. `held_out` is what losses are measured on:
/// its first `held_out_images` at every evaluation, all of it for the final accuracy.
template <class B>
struct task {
  model::vision_transformer_shape shape;
  weights checkpoint;
  data::device_set<B> const* training;
  data::device_set<B> const* held_out;
  index_t held_out_images;
};

/// The pre-trained model with a new head, the method's adapters attached. Head and gradient sample depend on the seed
/// alone, so methods are compared on the same.
template <class B>
double prepare(B& be, model::vision_transformer<B>& m, task<B> const& t, method const& how, settings const& s,
               std::uint64_t seed) {
  load(be, m, t.checkpoint);
  m.randomise_head(be, {seed, 4000});  // not the stream of pre-training's head, whatever the seed
  auto const began = std::chrono::steady_clock::now();
  if (how.how == start::full) return 0;
  attach_adapters(be, m, how, s, *t.training, seed);
  be.synchronize();
  return seconds_since(began);
}

/// One fine-tuning run: start, training, evaluations. `progress(step, loss)` is called at each evaluation.
template <class B>
run_record fine_tune(B& be, task<B> const& t, method const& how, double rate, std::uint64_t seed, settings const& s,
                     std::function<void(index_t, double)> const& progress) {
  auto const began = std::chrono::steady_clock::now();
  run_record record;
  record.method = how.name;
  record.rate = rate;
  record.seed = seed;
  model::vision_transformer<B> m(be, t.shape), copy(be, t.shape);
  record.init_seconds = prepare(be, m, t, how, s, seed);
  optimiser<B> opt(be, {.total = s.steps, .warmup = (s.steps * 3 + 99) / 100});
  record.trainable = add_parameters(be, opt, m, how, rate);
  data::sampler batches(t.training->count(), {seed, 1});
  data::batch_buffer<B> buffer;
  model::loss_result last;
  auto const look = [&](index_t step) {
    copy_merged(be, m, copy);
    last = evaluate(be, copy, *t.held_out, 0, t.held_out_images);
    record.steps.push_back(step);
    record.losses.push_back(last.mean());
    progress(step, record.losses.back());
  };
  look(0);
  for (index_t step = 1; step <= s.steps; ++step) {
    auto const batch = buffer.pick(be, *t.training, batches.draw(s.batch));
    zero_gradients(be, m);
    m.run(be, batch.images, batch.labels, true);
    opt.step(be);
    if (step % s.evaluate_every == 0 || step == s.steps) look(step);
  }
  auto const rest = evaluate(be, copy, *t.held_out, t.held_out_images, t.held_out->count() - t.held_out_images);
  record.accuracy = static_cast<double>(last.correct + rest.correct) / static_cast<double>(last.count + rest.count);
  record.seconds = seconds_since(began);
  return record;
}

/// Trains a model from scratch on the base task: `steps` batches of 64 at a cosine rate of 1e-3.
template <class B>
weights pre_train(B& be, model::vision_transformer_shape shape, data::device_set<B> const& training, index_t steps,
                  std::function<void(index_t, double)> const& progress) {
  model::vision_transformer<B> m(be, shape);
  m.randomise(be, 1);
  optimiser<B> opt(be, {.total = steps, .warmup = steps / 20});
  add_parameters(be, opt, m, {"full", start::full}, 1e-3);
  data::sampler batches(training.count(), {1, 1});
  data::batch_buffer<B> buffer;
  for (index_t step = 1; step <= steps; ++step) {
    auto const batch = buffer.pick(be, training, batches.draw(64));
    zero_gradients(be, m);
    auto const r = m.run(be, batch.images, batch.labels, true);
    opt.step(be);
    if (step % 25 == 0 || step == steps) progress(step, r.mean());
  }
  return save(be, m);
}

}  // namespace finetune
