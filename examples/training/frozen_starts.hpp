#pragma once
#include <chrono>

#include "allocation_meter.hpp"
#include "samples.hpp"

// Starts on a base that stays packed and is never written: layer by layer, with a frozen pair, so that no more than one
// weight is ever in float and the model is the same to the last bit at step 0.

namespace training {

template <class I>
constexpr bool looks_at_weight = [] {
  return std::is_same_v<I, loraga::pissa_init> || std::is_same_v<I, loraga::milora_init> ||
         std::is_same_v<I, loraga::olora_init>;
}();

/// Starts the LoRA adapter of a model's i-th layer, from what was measured of that layer (nothing, for most starts).
template <class B, class L, class I, class X, class G = loraga::no_source, class R = one_process>
void start_frozen_layer(B& be, L& l, std::size_t i, I init, std::uint64_t seed, X const& anchor,
                        G const* measured = nullptr, R const& ranks = {}) {
  using adapter = loraga::lora<float, B>;
  using weight = loraga::matrix_view<float, typename B::space>;
  if constexpr (requires { init.seed; }) init.seed = loraga::derive({seed, i}, 0).id;
  loraga::matrix<float, B> w;
  if constexpr (looks_at_weight<I>) w = l.unpacked(be);
  std::array<loraga::layer<adapter, weight, G>, 1> const one{
      {{l.adapter.template get<adapter>(), looks_at_weight<I> ? w.view().transposed() : weight{}, measured,
        l.weight.name}}};
  ranks.initialise(be, one, init, loraga::automatic_svd{.seed = seed}, anchor);
}

/// A start that another rank made as an I.
template <class I, class V>
struct handed_init {
  V a, b;
  static constexpr loraga::start_kind starts = I::starts;
  template <class B, class To>
  void make(B& be, loraga::layer_facts const&, To to_a, To to_b) const {
    be.copy(a, to_a);
    be.copy(b, to_b);
  }
};

/// Layer i of a model was started by rank i % size: every rank gets the others' A and B.
template <class I, class B, class M, class X, class R>
void hand_round(B& be, M& m, X const& anchor, R const& ranks) {
  using adapter = loraga::lora<float, B>;
  using view = loraga::matrix_view<float, typename B::space>;
  auto const layers = m.linears();
  for (int root = 0; root < ranks.size(); ++root) {
    std::vector<loraga::matrix<float, B>> memory;
    std::vector<view> views;
    for (auto i = static_cast<std::size_t>(root); i < layers.size(); i += static_cast<std::size_t>(ranks.size())) {
      auto& ad = *layers[i]->adapter.template get<adapter>();
      auto const a = [&] { return memory.emplace_back(be, ad.in(), ad.rank()).view().transposed(); };
      auto const b = [&] { return memory.emplace_back(be, ad.out(), ad.rank()).view(); };
      views.push_back(root == ranks.rank() ? ad.a() : a());
      views.push_back(root == ranks.rank() ? ad.b() : b());
    }
    ranks.broadcast(be, views, root);
    if (root == ranks.rank()) continue;
    for (std::size_t k = 0, i = static_cast<std::size_t>(root); k < views.size(); k += 2) {
      handed_init<I, view> const init{views[k], views[k + 1]};
      loraga::initialise(be, *layers[i]->adapter.template get<adapter>(), init, anchor);
      i += static_cast<std::size_t>(ranks.size());
    }
  }
}

/// Starts all of them, each from its member of `measured`, if there are any. Ranks take turns, and then hand round what
/// they made.
template <class B, class M, class I, class X, class G = std::vector<loraga::no_source>, class R = one_process>
void start_frozen(B& be, M& m, I const& init, std::uint64_t seed, X const& anchor, G const& measured = {},
                  R const& ranks = {}) {
  auto const layers = m.linears();
  auto const first = static_cast<std::size_t>(ranks.rank()), stride = static_cast<std::size_t>(ranks.size());
  for (std::size_t i = first; i < layers.size(); i += stride)
    start_frozen_layer(be, *layers[i], i, init, seed, anchor,
                       std::size(measured) == 0 ? nullptr : &measured[static_cast<decltype(std::size(measured))>(i)]);
  if constexpr (!std::is_same_v<R, one_process>) hand_round<I>(be, m, anchor, ranks);
}

/// The paper's Algorithm 1: within one backward pass every layer's gradient is formed, its adapter started from it, and
/// the gradient dropped before the next layer's is formed.
/// errors  value_error for fewer items than ranks: all of them have to go backward
template <class B, class M, class S, class I, class X, class R>
void start_in_backward(B& be, M& m, S const& set, train_spec const& s, I const& init, X const& anchor, R const& ranks) {
  if (s.sample.batch < ranks.size())
    loraga::raise<loraga::value_error>(
        "training", "sample_batch", std::to_string(s.sample.batch),
        "at least one item for each of " + std::to_string(ranks.size()) + " ranks, for an estimate of one-shot");
  auto const began = std::chrono::steady_clock::now();
  typename S::template buffer<B> buffer;
  auto const all = data::sampler(set.count(), {s.seed, 1000}).draw(s.sample.batch);
  auto const& mine = ranks.share(all);
  double const weight = weight_of(set, mine, all);
  auto const& batch = buffer.pick(be, set, mine);
  m.require_one_piece(batch);
  m.estimate = {.batches = 1};
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i)
    layers[i]->watcher = [&, l = layers[i], i](B& on, auto dy, auto x) {
      allocation_peak const peak;
      loraga::dense_gradient<B> gradient(on, l->out(), l->in());
      gradient.add_outer(on, dy, x, weight);
      std::span one(&gradient, 1);
      ranks.combine(on, one);
      start_frozen_layer(on, *l, i, init, s.seed, anchor, &gradient, ranks);
      m.estimate.bytes = std::max<std::int64_t>(m.estimate.bytes, l->out() * l->in() * std::int64_t{sizeof(float)});
      m.estimate.measured = std::max(m.estimate.measured, peak.bytes());
    };
  m.run(be, batch, true);
  for (auto* l : layers) l->watcher = nullptr;
  m.estimate.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

/// Feeds every layer's member of `all` the sample's batches, up to `most` or until done(batch), and makes them what all
/// ranks saw.
/// returns  how many there were
template <class B, class M, class S, class G, class F, class R = one_process>
index_t run_watched(B& be, M& m, S const& set, train_spec const& s, index_t most, G& all, F const& done,
                    R const& ranks = {}) {
  auto const layers = m.linears();
  double weight = 1;
  for (std::size_t i = 0; i < layers.size(); ++i)
    layers[i]->watcher = [&m, &weight, &g = all[static_cast<decltype(std::size(all))>(i)]](B& on, auto dy, auto x) {
      allocation_peak const peak;
      g.add_outer(on, dy, x, weight);
      m.estimate.measured += peak.held();
    };
  data::sampler order(set.count(), {s.seed, 1000});
  typename S::template buffer<B> buffer;
  index_t batches = 0;
  while (batches < most) {
    auto const items = order.draw(s.sample.batch);
    auto const& mine = ranks.share(items);
    if (!mine.empty()) {
      weight = weight_of(set, mine, items);
      m.run(be, buffer.pick(be, set, mine), true);
    }
    if (done(batches++)) break;
  }
  for (auto* l : layers) l->watcher = nullptr;
  ranks.combine(be, all);
  return batches;
}

/// Gradients of all layers over the sample, or its first batches: more are not drawn once two in a row turn nothing any
/// more (one alone may end with a short piece, which turns little; of ranks the mean counts).
/// m.estimate says what that took.
template <class B, class M, class S, class R = one_process>
loraga::model_gradient<B> stream_gradients(B& be, M& m, S const& set, train_spec const& s, R const& ranks = {}) {
  auto const began = std::chrono::steady_clock::now();
  std::vector<loraga::layer_size> sizes;
  auto const layers = m.linears();
  for (auto* l : layers) sizes.push_back({l->out(), l->in()});
  allocation_peak const peak;
  loraga::model_gradient<B> all(be, sizes, {.rank = s.rank, .seed = s.seed});
  m.estimate = {.bytes = all.bytes(), .measured = peak.held()};
  bool quiet = false;
  auto const done = [&](index_t i) {
    double const turn = ranks.mean(be, all.turn().mean, all[0].count() > 0);
    if (i > 0) m.estimate.turns.push_back(turn);
    bool const before = std::exchange(quiet, s.settle > 0 && turn < s.settle);
    return m.estimate.settled = before && quiet;
  };
  m.estimate.batches = run_watched(be, m, set, s, s.sample.batches, all, done, ranks);
  m.estimate.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return all;
}

/// The same batches once more, within the directions that were found.
template <class B, class M, class S, class R = one_process>
std::vector<loraga::projected_gradient<B>> refine_gradients(B& be, M& m, S const& set, train_spec const& s,
                                                            loraga::model_gradient<B> const& first,
                                                            R const& ranks = {}) {
  std::vector<loraga::projected_gradient<B>> all;
  for (index_t i = 0; i < first.size(); ++i) all.emplace_back(be, first[i]);
  auto const never = [](index_t) { return false; };
  run_watched(be, m, set, s, m.estimate.batches, all, never, ranks);
  return all;
}

/// errors  as require_frozen_start
template <class B, class M, class S, class R = one_process>
void start_frozen_adapters(B& be, M& m, method const& how, train_spec const& s, S const& items, R const& ranks = {}) {
  loraga::frozen_pair_anchor const pair;
  using gradient = typename M::gradient_type;
  std::vector<loraga::no_source> const nothing;
  auto const begin_from = [&](auto const& init, auto const& anchor, auto const& from) {
    start_frozen(be, m, init, s.seed, anchor, from, ranks);
  };
  auto const begin = [&](auto const& init, auto const& anchor) { begin_from(init, anchor, nothing); };
  auto const begin_from_gradients = [&](auto const& init, auto const& anchor) {
    if (s.estimate == "one-shot") return start_in_backward(be, m, items, s, init, anchor, ranks);
    auto const first = stream_gradients(be, m, items, s, ranks);
    if (s.passes > 1) begin_from(init, anchor, refine_gradients(be, m, items, s, first, ranks));
    else begin_from(init, anchor, first);
  };
  require_frozen_start(how, s);
  switch (how.how) {
    case start::kaiming:
      return begin(loraga::kaiming_init{}, pair);
    case start::gaussian_pair:
      return begin(loraga::gaussian_pair_init{.stable = how.scale == loraga::ga_scale::stable, .gamma = s.gamma}, pair);
    case start::pissa:
      return begin(loraga::pissa_init{}, pair);
    case start::milora:
      return begin(loraga::milora_init{}, pair);
    case start::olora:
      return begin(loraga::olora_init{}, pair);
    case start::lora_one:
      return begin_from_gradients(loraga::lora_one_init{.gamma = s.gamma}, loraga::no_anchor{});
    case start::lora_ga: {
      loraga::lora_ga_init const init{
          .gamma = s.gamma, .directions = parse_directions(s.directions), .scale = how.scale, .seed = s.seed};
      if (how.source == direction_source::gradient) return begin_from_gradients(init, pair);
      return begin_from(init, pair, random_gradients<gradient>(be, m, s.seed));
    }
    default:
      break;
  }
}

}  // namespace training
