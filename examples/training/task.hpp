#pragma once
#include "../data/parts.hpp"
#include "../model/loss.hpp"
#include "../model/weights.hpp"
#include "one_process.hpp"
#include "records.hpp"

namespace training {

/// What all runs on one set share: the pre-trained model and the data. M is a model with `linears()`, `tensors()` (the
/// head's two last), `randomise_head()` and `run()`; S a data set with `count()`, `buffer` and `to_evaluate()`.
template <class M, class S>
struct task {
  using model_type = M;
  typename M::shape_type shape;
  model::weights const* weights;  // of all tensors, or of all but the head's
  data::parts<S> const* data;
  index_t curve_items = 200;  // of the part, at each evaluation; all of it at the end
  /// Evaluate a copy with the adapters merged into it, which costs what the base model costs.
  bool merged = false;
  /// LoRA's own start layer by layer, each with a seed of its own, instead of all with the streams of one seed. Records
  /// that were made one way or the other stay as they are.
  bool layer_seeds = false;
  bool new_head = true;
};

/// The pre-trained model, with a new head: a function of the seed alone, so that methods are compared on the same. (Its
/// stream is none of pre-training's.)
template <class B, class M, class S>
void set_up(B& be, M& m, task<M, S> const& t, std::uint64_t seed) {
  model::load(be, m, *t.weights);
  if (t.new_head) m.randomise_head(be, {seed, 4000});
}

/// The largest rank LoRA-GA can use on a layer: 2r singular vectors must exist.
template <class L>
index_t most_rank(L const& layer) {
  return std::max<index_t>(1, std::min(layer.out(), layer.in()) / 2);
}

/// Whether a model's base cannot be written.
template <class M>
inline constexpr bool is_frozen = requires {
  M::is_frozen;
};

/// Adapters that measure something of W before they train do so now, if no pass was there before: DoRA's magnitude.
template <class B, class M>
void prepare_adapters(B& be, M& m) {
  if constexpr (!is_frozen<M>)
    for (auto* l : m.linears())
      l->adapter.with([&](auto& ad) {
        if constexpr (requires { ad.prepare(be, l->w()); }) ad.prepare(be, l->w());
      });
}

/// The model as it stands, adapters merged into a copy's weights.
template <class B, class M>
void copy_merged(B& be, M& from, M& to) {
  auto const source = from.tensors(), target = to.tensors();
  for (std::size_t i = 0; i < source.size(); ++i) be.copy(source[i]->value.view(), target[i]->value.view());
  prepare_adapters(be, from);
  auto const adapted = from.linears(), plain = to.linears();
  for (std::size_t i = 0; i < adapted.size(); ++i) adapted[i]->adapter.add_change(be, plain[i]->w());
}

/// Loss and hits over items of a set.
template <class B, class M, class S, class R = one_process>
model::loss_result evaluate(B& be, M& m, S const& set, index_t first, index_t n, R const& ranks = {}) {
  constexpr bool on_host = std::is_same_v<typename B::space, loraga::host_space>;
  model::loss_result total;
  typename S::template buffer<B> buffer;
  if (auto const [skip, mine] = ranks.share(n); mine > 0)
    for (auto const& items : set.to_evaluate(first + skip, mine, on_host))
      total += m.run(be, buffer.pick(be, set, items), false);
  return ranks.total(be, total);
}

}  // namespace training
