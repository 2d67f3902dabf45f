#pragma once
#include "samples.hpp"

// Starts on a base that stays packed and is never written: layer by layer, with a frozen pair, so that no more than one
// weight is ever in float and the model is the same to the last bit at step 0.

namespace training {

/// Whether a model's base cannot be written.
template <class M>
inline constexpr bool is_frozen = requires {
  M::is_frozen;
};

template <class I>
constexpr bool looks_at_weight = [] {
  return std::is_same_v<I, loraga::pissa_init> || std::is_same_v<I, loraga::milora_init> ||
         std::is_same_v<I, loraga::olora_init> || std::is_same_v<I, loraga::corda_init>;
}();

/// Starts all LoRA adapters of a model, each from what was measured of its layer (nothing, for most starts).
template <class B, class M, class I, class X, class G = loraga::no_source>
void start_frozen(B& be, M& m, I init, std::uint64_t seed, X const& anchor, std::vector<G> const& measured = {}) {
  using adapter = loraga::lora<float, B>;
  using weight = loraga::matrix_view<float, typename B::space>;
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if constexpr (requires { init.seed; }) init.seed = loraga::derive({seed, i}, 0).id;
    loraga::matrix<float, B> w;
    if constexpr (looks_at_weight<I>) w = layers[i]->unpacked(be);
    std::array<loraga::layer<adapter, weight, G>, 1> const one{
        {{layers[i]->adapter.template get<adapter>(), looks_at_weight<I> ? w.view().transposed() : weight{},
          measured.empty() ? nullptr : &measured[i], layers[i]->weight.name}}};
    loraga::initialise(be, one, init, loraga::automatic_svd{.seed = seed}, anchor);
  }
}

/// errors  value_error for a method that changes the base, or needs more of it than a packed one gives
template <class B, class M, class S>
void start_frozen_adapters(B& be, M& m, method const& how, train_spec const& s, S const& items) {
  loraga::frozen_pair_anchor const pair;
  using gradient = typename M::gradient_type;
  auto const estimate = [&] { return estimate_gradients<gradient>(be, m, items, s.sample, {s.seed, 1000}); };
  auto const begin = [&](auto const& init, auto const& anchor, auto const&... from) {
    start_frozen(be, m, init, s.seed, anchor, from...);
  };
  if (how.kind == adapter_kind::lora) switch (how.how) {
      case start::kaiming:
        return begin(loraga::kaiming_init{}, pair);
      case start::gaussian_pair:
        return begin(loraga::gaussian_pair_init{.stable = how.scale == loraga::ga_scale::stable, .gamma = s.gamma},
                     pair);
      case start::pissa:
        return begin(loraga::pissa_init{}, pair);
      case start::milora:
        return begin(loraga::milora_init{}, pair);
      case start::olora:
        return begin(loraga::olora_init{}, pair);
      case start::lora_one:
        return begin(loraga::lora_one_init{.gamma = s.gamma}, loraga::no_anchor{}, estimate());
      case start::lora_ga: {
        loraga::lora_ga_init const init{
            .gamma = s.gamma, .directions = parse_directions(s.directions), .scale = how.scale, .seed = s.seed};
        return how.source == direction_source::gradient ? begin(init, pair, estimate())
                                                        : begin(init, pair, random_gradients<gradient>(be, m, s.seed));
      }
      default:
        break;
    }
  loraga::raise<loraga::value_error>("training", "method", "'" + how.name + "'",
                                     "one whose start leaves the base as it is: lora, rslora, lora+, pissa, milora, "
                                     "olora, lora-one, lora-ga, ga-random, gaussian, +so or +ga");
}

}  // namespace training
