#pragma once
#include "frozen_starts.hpp"

// How each method's adapters are made and started, as a user of the library writes it: the only place that knows.

namespace training {

/// EVA's ranks: directions that explain much of their layer's inputs go first, `rank` per layer on average.
template <class B>
std::vector<index_t> eva_ranks(B& be, inputs<B> const& measured, index_t rank) {
  std::vector<std::vector<double>> explained;
  for (auto const& one : measured) {
    loraga::eva_convergence<B> look;
    look.look(be, loraga::automatic_svd{}, one, std::min(2 * rank, one.features()));
    explained.push_back(look.explained());
  }
  return loraga::redistribute_ranks(explained, rank);
}

/// GoRA's ranks: half to four times `rank`, by how much a layer's weights matter to the loss.
template <class B, class M>
std::vector<index_t> gora_ranks(B& be, M& m, gradients<B> const& measured, index_t rank) {
  std::vector<loraga::layer_importance> all;
  for (auto* l : m.linears())
    all.push_back({l->out(), l->in(), loraga::gora_importance(be, l->w(), measured[all.size()]), l->weight.name});
  return loraga::ranks_by_importance(all, rank, std::max<index_t>(1, rank / 2), 4 * rank);
}

/// AdaLoRA's ranks, one for all layers: half as many again as it keeps, as in the paper that LoRA-GA compares with (12
/// and 8).
template <class M>
index_t adalora_rank(M& m, index_t kept) {
  index_t rank = kept + (kept + 1) / 2;
  for (auto* l : m.linears()) rank = std::min(rank, most_rank(*l));
  return rank;
}

/// The rank of every layer's adapter, 0 for none.
template <class B, class M, class S, class R>
std::vector<index_t> layer_ranks(B& be, M& m, method const& how, train_spec const& s, S const& items,
                                 measurements<B>& measured, R const& ranks) {
  if constexpr (is_frozen<M>) {
    require_frozen_start(how, s);  // before anything is measured
  } else {
    if (how.how == start::eva) {
      measured.inputs = collect_inputs(be, m, items, s, {}, ranks);
      return eva_ranks(be, measured.inputs, s.rank);
    }
    if (how.how == start::gora) {
      measured.gradients = estimate_gradients<loraga::dense_gradient<B>>(be, m, items, s.sample, {s.seed, 1000}, ranks);
      return gora_ranks(be, m, measured.gradients, s.rank);
    }
  }
  index_t const rank = how.kind == adapter_kind::adalora ? adalora_rank(m, s.rank) : s.rank;
  std::vector<index_t> all;
  for (auto* l : m.linears()) all.push_back(std::min(rank, most_rank(*l)));
  return all;
}

/// Every layer's adapter as it is before its start: all that a checkpoint is loaded into.
template <class B, class M>
void make_adapters(B& be, M& m, method const& how, train_spec const& s, std::vector<index_t> const& ranks) {
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto* const l = layers[i];
    index_t const r = ranks[i];
    if (r == 0) continue;
    auto const emplace = [&](auto scaling) {
      loraga::lora_options const options{.seed = loraga::derive({s.seed, i}, 1).id};
      auto const make = [&]<class A>(A const*) {
        l->adapter.template emplace<A>(be, l->out(), l->in(), r, scaling, options);
      };
      if (how.kind == adapter_kind::lora) make(static_cast<loraga::lora<float, B> const*>(nullptr));
      if (how.kind == adapter_kind::dora) make(static_cast<loraga::dora<float, B> const*>(nullptr));
      if (how.kind == adapter_kind::adalora) make(static_cast<loraga::adalora<float, B> const*>(nullptr));
      if (how.kind == adapter_kind::lora_sb) make(static_cast<loraga::lora_sb<float, B> const*>(nullptr));
    };
    if (how.rank_stable) emplace(loraga::rank_stable_scaling{.alpha = s.alpha});
    else if (how.kind == adapter_kind::adalora) emplace(loraga::adalora_scaling{.alpha = s.alpha});
    else if (how.own_ranks()) emplace(loraga::constant_scaling{s.alpha / static_cast<double>(s.rank)});  // alpha ~ r
    else emplace(loraga::classic_scaling{.alpha = s.alpha});
  }
}

/// Adapters of class A with their layers and what was measured of those (nothing, for most starts).
template <class A, class B, class G, class M>
auto layers_with(M& m, std::vector<G> const& measured) {
  std::vector<loraga::layer<A, loraga::matrix_view<float, typename B::space>, G>> list;
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (auto* const ad = layers[i]->adapter.template get<A>())
      list.push_back({ad, layers[i]->w(), measured.empty() ? nullptr : &measured[i], layers[i]->weight.name});
  return list;
}

/// Starts all adapters, which are of class A.
template <class A, class B, class M, class I, class X, class R, class G = loraga::no_source>
void initialise_all(B& be, M& m, I const& init, std::uint64_t seed, X const& anchor, R const& ranks,
                    std::vector<G> const& measured = {}) {
  auto const list = layers_with<A, B>(m, measured);
  ranks.initialise(be, list, init, loraga::automatic_svd{.seed = seed}, anchor);
}

/// LoRA's own start: B = 0, so that nothing has to be anchored.
template <class A, class B, class M, class R>
void start_at_zero(B& be, M& m, std::uint64_t seed, bool layer_seeds, R const& ranks) {
  loraga::frozen_pair_anchor const unchanged;
  if (!layer_seeds) return initialise_all<A>(be, m, loraga::kaiming_init{seed}, seed, unchanged, ranks);
  auto const list = layers_with<A, B>(m, std::vector<loraga::no_source>{});
  for (std::size_t i = 0; i < list.size(); ++i)
    ranks.initialise(be, std::span(list).subspan(i, 1), loraga::kaiming_init{loraga::derive({seed, i}, 0).id});
}

/// The start of adapters of class A. All are anchored in place but AdaLoRA's, which would have to change W with every
/// pruning, and LoRA-One's, LoRA-SB's and GoRA's, which are not anchored at all.
template <class A, class B, class M, class S, class R>
void start_as(B& be, M& m, method const& how, train_spec const& s, S const& items, measurements<B> const& measured,
              bool layer_seeds, R const& ranks) {
  constexpr bool plain = std::is_same_v<A, loraga::lora<float, B>>;
  constexpr bool prunes = std::is_same_v<A, loraga::adalora<float, B>>;
  using anchor = std::conditional_t<prunes, loraga::frozen_pair_anchor, loraga::in_place_anchor>;
  using mean = loraga::dense_gradient<B>;
  auto const estimate = [&] { return estimate_gradients<mean>(be, m, items, s.sample, {s.seed, 1000}, ranks); };
  auto const begin = [&](auto const& init, auto const& how_kept, auto const&... from) {
    initialise_all<A>(be, m, init, s.seed, how_kept, ranks, from...);
  };
  if (how.how == start::kaiming) return start_at_zero<A>(be, m, s.seed, layer_seeds, ranks);
  if (how.how == start::lora_ga) {
    loraga::lora_ga_init const init{
        .gamma = s.gamma, .directions = parse_directions(s.directions), .scale = how.scale, .seed = s.seed};
    auto const from = how.source == direction_source::gradient ? estimate() : random_gradients<mean>(be, m, s.seed);
    return begin(init, anchor{}, from);
  }
  if constexpr (plain) switch (how.how) {
      case start::gaussian_pair:
        return begin(
            loraga::gaussian_pair_init{
                .stable = how.scale == loraga::ga_scale::stable, .gamma = s.gamma, .seed = s.seed},
            anchor{});
      case start::pissa:
        return begin(loraga::pissa_init{}, anchor{});
      case start::milora:
        return begin(loraga::milora_init{}, anchor{});
      case start::olora:
        return begin(loraga::olora_init{}, anchor{});
      case start::corda:
        return begin(loraga::corda_init{}, anchor{}, collect_inputs(be, m, items, s, {.by_peak = true}, ranks));
      case start::eva:
        return begin(loraga::eva_init{}, anchor{}, measured.inputs);
      case start::lora_one:
        return begin(loraga::lora_one_init{.gamma = s.gamma}, loraga::no_anchor{}, estimate());
      case start::gora:
        return begin(loraga::gora_init{.seed = s.seed}, loraga::no_anchor{}, measured.gradients);
      default:
        break;
    }
}

/// LoRA-SB's start, from the signs of the gradients: as far as full fine-tuning's first step, at a rate that suits full
/// fine-tuning. The adapter's own is larger by far, and a first step of that size would undo the pre-training.
template <class B, class M, class S, class R>
void start_lora_sb(B& be, M& m, train_spec const& s, S const& items, R const& ranks) {
  auto const signs = estimate_gradients<loraga::sign_gradient<B>>(be, m, items, s.sample, {s.seed, 1000}, ranks);
  initialise_all<loraga::lora_sb<float, B>>(be, m, loraga::lora_sb_init{.step = find_method("full").rate}, s.seed,
                                            loraga::no_anchor{}, ranks, signs);
}

template <class B, class M, class S, class R>
void start_adapters(B& be, M& m, method const& how, train_spec const& s, S const& items,
                    measurements<B> const& measured, bool layer_seeds, R const& ranks) {
  if constexpr (is_frozen<M>) {
    start_frozen_adapters(be, m, how, s, items, ranks);
  } else {
    auto const as = [&]<class A>(A const*) { start_as<A>(be, m, how, s, items, measured, layer_seeds, ranks); };
    if (how.kind == adapter_kind::lora) as(static_cast<loraga::lora<float, B> const*>(nullptr));
    if (how.kind == adapter_kind::dora) as(static_cast<loraga::dora<float, B> const*>(nullptr));
    if (how.kind == adapter_kind::adalora) as(static_cast<loraga::adalora<float, B> const*>(nullptr));
    if (how.kind == adapter_kind::lora_sb) start_lora_sb(be, m, s, items, ranks);
  }
}

/// After a checkpoint was loaded into adapters and the pre-trained weights were read anew: weights that the start had
/// changed are brought there again.
template <class B, class M>
void anchor_again(B& be, M& m) {
  if constexpr (!is_frozen<M>)
    for (auto* l : m.linears())
      l->adapter.with([&](auto& ad) {
        if (ad.anchored_in_place()) ad.anchor_again(be, l->w());
      });
}

}  // namespace training
