#pragma once
#include <loraga/concepts.hpp>
#include <loraga/core/range.hpp>

namespace loraga {

/// The type in W's or the source's place where a layer has none.
struct no_weight {
  using value_type = float;
  static constexpr float const* data = nullptr;
};
struct no_source {};

/// One layer to initialise. Views and pointers are borrowed for the call; the arguments give the types.
///   std::vector layers{layer{&adapter, W, &gradient, "q_proj"}, layer{&other, W2, &gradient2, "v_proj"}};
template <class A, class W = no_weight, class S = no_source>
struct layer {
  A* adapter = nullptr;       ///< to be started
  W weight = {};              ///< a view; an empty one where this layer's W is not at hand
  S const* source = nullptr;  ///< what was measured of the layer: a gradient accumulator, input_statistics, ...
  std::string name = {};      ///< for messages

  std::string label(std::size_t position) const { return layer_label(name, position); }
};
template <class A, class W, class S>
layer(A*, W, S const*, std::string) -> layer<A, W, S>;
template <class A, class W, class S>
layer(A*, W, S const*) -> layer<A, W, S>;
template <class A, class W>
layer(A*, W) -> layer<A, W>;
template <class A>
layer(A*) -> layer<A>;

namespace detail {

template <class L>
struct layer_parts;
template <class A, class W, class S>
struct layer_parts<layer<A, W, S>> {
  using adapter = A;
  using weight = W;
  using source = S;
  using weight_element = typename W::value_type;
  static constexpr bool has_weight = !std::is_same_v<W, no_weight>;
};

template <class L>
inline constexpr bool is_layer = requires {
  typename layer_parts<std::remove_cv_t<L>>::adapter;
};

/// A contiguous range of layers.
template <class R>
concept LayerRange = ContiguousRange<R> && is_layer<element_of<R>>;

}  // namespace detail

/// The class of a layer's source: what a Need looks at.
template <class L>
using layer_source = typename detail::layer_parts<L>::source;

namespace detail {

/// A layer's W as a const view, empty where there is none.
template <class B, class A, class W, class S>
auto weight_of(layer<A, W, S> const& l) {
  const_view<typename W::value_type, typename B::space> v;
  if constexpr (!std::is_same_v<W, no_weight>) v = l.weight;
  return v;
}

template <class A, class W, class S>
layer_facts facts_of(layer<A, W, S> const& l, std::uint64_t number) {
  return {l.adapter->out(), l.adapter->in(), l.adapter->rank(), l.adapter->scale(), l.weight.data != nullptr, number};
}

}  // namespace detail

}  // namespace loraga
