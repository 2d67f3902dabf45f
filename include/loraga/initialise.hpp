#pragma once
#include <loraga/start/start_layers.hpp>
#include <loraga/svd/automatic.hpp>

namespace loraga {

/// Starts one adapter, or all layers of a contiguous range: makes A and B as `init` says, and anchors them.
///   initialise(be, adapter, kaiming_init{});
///   initialise(be, adapter, lora_ga_init{}, W, automatic_svd{}, gradient, in_place_anchor{});
///   initialise(be, layers, lora_ga_init{}, automatic_svd{}, in_place_anchor{});   // std::vector<layer<...>>, say
/// The arguments behind the initialiser are a view of W, an SVD method, sources (accumulators, input_statistics) and an
/// anchor. They are known by their kind, so any order will do. Without an SVD method automatic_svd is used. With
/// over_ranks(comm) (loraga/distributed.hpp) several ranks share the work.
/// What the initialiser does not need is ignored. A call that lacks what it needs does not compile, and says why in one
/// sentence. Layers bring their own W and source.
/// Layers of one shape and rank are factored together. New values are made beside the old ones and judged before any
/// layer changes. Random streams are separated by the layer's number, a lone adapter's by its seed.
/// errors  before any change all that check_layers, init.check and the SVD method refuse;
///         numeric_error that names every layer whose gradient, inputs or W are zero, not finite or not factored, or
///         whose A or B would be zero or not finite: these layers stay as they were, the others are initialised;
///         backend_error that names the layer at which memory ran out or the device failed
/// cost    that of the initialiser, the SVD method and the anchor
/// memory  A and B of all layers once more, until the call returns
template <Backend B, class T, class I, class... Arguments>
void initialise(B& be, T&& target, I const& init, Arguments const&... arguments) {
  using detail::argument;
  using A = std::remove_cvref_t<T>;
  constexpr bool range = detail::LayerRange<A>, one = !range && requires(A & a) { a.check_start(); };
  constexpr bool known = detail::count_of<argument::unknown, B, Arguments...> == 0;
  constexpr bool single =
      detail::count_of<argument::weight, B, Arguments...> < 2 && detail::count_of<argument::svd, B, Arguments...> < 2 &&
      detail::count_of<argument::anchor, B, Arguments...> < 2 && detail::count_of<argument::ranks, B, Arguments...> < 2;
  constexpr bool own =
      !range ||
      detail::count_of<argument::weight, B, Arguments...> + detail::count_of<argument::source, B, Arguments...> == 0;
  static_assert(range || one,
                "initialise starts an adapter (a convolution's or embedding's is its adapter()), or a contiguous range "
                "of `layer`");
  static_assert(Initialiser<I>, "the argument behind the adapter is an initialiser, such as lora_ga_init{}");
  static_assert(known,
                "behind the initialiser come a view of W, an SVD method for this backend, sources (accumulators, "
                "input_statistics), an anchor, over_ranks; an argument here is none of these (a matrix has .view())");
  static_assert(single,
                "W, the SVD method, the anchor and over_ranks are given at most once; a gradient goes into an "
                "accumulator, such as "
                "dense_gradient");
  static_assert(own, "layers of a range bring their own W and source: leave them out here");
  static_assert(detail::HasConstMembers<I>, "check(facts) and needs(facts) of an initialiser are const");
  if constexpr ((range || one) && Initialiser<I> && known && single && own) {
    automatic_svd const usual;
    detail::anchor_not_given const none;
    detail::one_starter const alone;
    auto const& svd = detail::pick<argument::svd, B>(usual, arguments...);
    auto const& anchor = detail::pick<argument::anchor, B>(none, arguments...);
    auto const& ranks = detail::pick<argument::ranks, B>(alone, arguments...);
    using Svd = std::remove_cvref_t<decltype(svd)>;
    using X = std::remove_cvref_t<decltype(anchor)>;
    if constexpr (range) {
      using L = element_of<A>;
      using types = detail::start_types<B, L, I, Svd, X>;
      auto const layers = elements_of(target);
      if constexpr (types::fit) detail::start_layers(be, layers, 0, init, svd, anchor, ranks);
      else if constexpr (types::here && !types::needs::met) types::needs::explain();
      else types::explain();
    } else {
      no_weight const absent;
      auto const& w = detail::pick<argument::weight, B>(absent, arguments...);
      using W = std::remove_cvref_t<decltype(w)>;
      static_assert(detail::meeting_sources<B, I, A, W, Svd, Arguments...>() < 2,
                    "two sources here meet what this initialiser needs: give the one it shall start from");
      auto const& source = detail::pick_source_of<B, I, A, W, Svd>(arguments...);
      using L = layer<A, W, std::remove_cvref_t<decltype(source)>>;
      using types = detail::start_types<B, L, I, Svd, X>;
      L const only[] = {{&target, w, &source, "the layer"}};
      if constexpr (types::fit)
        detail::start_layers(be, std::span<L const>(only), detail::seed_of(target), init, svd, anchor, ranks);
      else if constexpr (types::here && !types::needs::met) types::needs::explain();
      else types::explain();
    }
  }
}

}  // namespace loraga
