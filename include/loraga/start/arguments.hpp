#pragma once
#include <loraga/start/anchor.hpp>
#include <loraga/start/needs.hpp>
#include <vector>

// The arguments of `initialise` behind the initialiser, told apart by what they are, so that their order is free; and
// whether they go together, with a sentence where they do not.

namespace loraga::detail {

/// Starts made by one process alone; over_ranks shares them.
struct one_starter {
  template <class B, class F>
  void together(B&, F const& work) const {
    work();
  }
  /// Makes all of them. make(which layers) fills their places in `all`.
  template <class B, class L, class I, class X, class N, class F>
  void share(B&, std::span<L const> layers, I const&, X const&, std::vector<N>&, F const& make) const {
    std::vector<std::size_t> which(layers.size());
    for (std::size_t i = 0; i < which.size(); ++i) which[i] = i;
    make(which);
  }
};
template <class X>
inline constexpr bool is_sharing = requires {
  X::shares_starts;
};

enum class argument { weight, svd, source, anchor, ranks, unknown };

template <class X, class B>
inline constexpr argument argument_kind = [] {
  if constexpr (std::is_same_v<X, no_weight> || requires(X const& x) { x.data, x.rows, x.row_stride; })
    return argument::weight;
  else if constexpr (Anchor<X>) return argument::anchor;
  else if constexpr (is_sharing<X>) return argument::ranks;
  else if constexpr (Source<X>) return argument::source;  // which may have a `top` of its own
  else if constexpr (SvdMethod<X, B>) return argument::svd;
  else return argument::unknown;
}();

template <argument K, class B, class... X>
inline constexpr int count_of = (0 + ... + (argument_kind<X, B> == K ? 1 : 0));

/// The first argument of that kind, or `otherwise`.
template <argument K, class B, class D>
D const& pick(D const& otherwise) {
  return otherwise;
}
template <argument K, class B, class D, class First, class... Rest>
auto const& pick(D const& otherwise, First const& first, Rest const&... rest) {
  if constexpr (argument_kind<First, B> == K) return first;
  else return pick<K, B>(otherwise, rest...);
}

struct anchor_not_given {
  static constexpr bool changes_weight = false, in_steps = true;
};

/// What an initialiser needs, as a tuple.
template <class... N>
std::tuple<N...> as_tuple(std::tuple<N...> needs) {
  return needs;
}
template <class N>
std::tuple<N> as_tuple(N need) {
  static_assert(std::is_class_v<N>, "needs(facts) returns a need, such as gradient_triplets, or a std::tuple of needs");
  return {need};
}
template <class I>
auto needs_of(I const& init, layer_facts const& facts) {
  if constexpr (requires { init.needs(facts); }) return as_tuple(init.needs(facts));
  else return std::tuple<>();
}
template <class I>
using needs_t = decltype(needs_of(std::declval<I const&>(), layer_facts{}));

template <class Needs, class B, class L, class Svd>
struct all_needs;
template <class... N, class B, class L, class Svd>
struct all_needs<std::tuple<N...>, B, L, Svd> {
  static constexpr bool met = (N::template met<B, L, Svd> && ...);
  /// Whether values of all layers last side by side, and whether their flags may be read later.
  static constexpr bool last = (goes_in_step<N> && ...);
  static constexpr bool take_unread = [] {
    if constexpr (requires { (N::template takes_unread<L>, ...); }) return (N::template takes_unread<L> && ...);
    else return false;
  }();
  static constexpr void explain() { (N::template explain<B, L, Svd>(), ...); }
};

template <class B, class I, class A, class W, class Svd, class Source>
inline constexpr bool meets_needs = all_needs<needs_t<I>, B, layer<A, W, Source>, Svd>::met;

/// The first source that has what the initialiser needs, else the first one.
template <class B, class I, class A, class W, class Svd, class First, class... Rest>
auto const& pick_source(First const& first, Rest const&... rest) {
  if constexpr (!meets_needs<B, I, A, W, Svd, First> && (meets_needs<B, I, A, W, Svd, Rest> || ...))
    return pick_source<B, I, A, W, Svd>(rest...);
  else return first;
}

/// The same of all arguments; no_source where none is one.
template <class B, class I, class A, class W, class Svd, class... Sources>
auto const& pick_among(std::tuple<Sources const&...> sources) {
  static constexpr no_source none;
  if constexpr (sizeof...(Sources) == 0) return none;
  else
    return std::apply(
        [](auto const&... s) -> auto const& { return pick_source<B, I, A, W, Svd>(s...); }, sources);
}
template <class B, class X>
auto source_or_nothing(X const& x) {
  if constexpr (argument_kind<X, B> == argument::source) return std::tuple<X const&>(x);
  else return std::tuple<>();
}
template <class B, class I, class A, class W, class Svd, class... X>
auto const& pick_source_of(X const&... arguments) {
  return pick_among<B, I, A, W, Svd>(std::tuple_cat(source_or_nothing<B>(arguments)...));
}

/// How many of the arguments alone meet what the initialiser needs of a source.
template <class B, class I, class A, class W, class Svd, class... X>
constexpr int meeting_sources() {
  [[maybe_unused]] auto const meets = []<class S>(S const*) {
    if constexpr (argument_kind<S, B> == argument::source)
      return all_needs<needs_t<I>, B, layer<A, W, S>, Svd>::met && !all_needs<needs_t<I>, B, layer<A, W>, Svd>::met;
    else return false;
  };
  return (0 + ... + (meets(static_cast<X const*>(nullptr)) ? 1 : 0));
}

/// Members of an initialiser that the wrong signature would leave out without a word.
template <class I>
concept HasConstMembers = (
                              !requires(I & i, layer_facts const& f) { i.check(f); } ||
                              requires(I const& i, layer_facts const& f) { i.check(f); }) &&
                          (
                              !requires(I & i, layer_facts const& f) { i.needs(f); } ||
                              requires(I const& i, layer_facts const& f) { i.needs(f); });

/// What separates the random streams of adapters that are started one by one.
template <class A>
std::uint64_t seed_of(A const& adapter) {
  if constexpr (requires { adapter.seed(); }) return adapter.seed();
  else return 0;
}

/// Whether an initialiser, an adapter with its W, and an anchor go together.
template <class B, class L, class I, class Svd, class X>
struct start_types {
  using A = typename layer_parts<L>::adapter;
  using W = typename layer_parts<L>::weight;
  using needs = all_needs<needs_t<I>, B, L, Svd>;
  static constexpr bool moves = I::starts != start_kind::at_zero;
  static constexpr bool here = std::is_same_v<W, no_weight> || ViewIn<W, typename B::space>;
  static constexpr bool anchored = !moves || !std::is_same_v<X, anchor_not_given>;
  static constexpr bool meant = I::starts != start_kind::offset || !std::is_same_v<X, no_anchor>;
  static constexpr bool changes = moves && X::changes_weight;
  static constexpr bool writable = !changes || MutableViewIn<W, typename B::space> || !here;
  static constexpr bool in_place = [] {
    if constexpr (requires { A::takes_changed_weight; }) return A::takes_changed_weight || !changes;
    else return true;
  }();
  static constexpr bool trainable = [] {
    if constexpr (requires { A::trains_factors, I::disjoint_triplets; })
      return A::trains_factors || !I::disjoint_triplets;
    else return true;
  }();
  static constexpr bool fit = here && anchored && meant && writable && in_place && trainable && needs::met;

  /// A sentence for the first thing that is wrong.
  static constexpr void explain() {
    if constexpr (!here)
      static_assert(here, "W lies in another memory than the backend's; row_major<device_space>(...) views a GPU's");
    else if constexpr (!anchored)
      static_assert(anchored,
                    "this start changes the model: say how that is undone, by in_place_anchor{} or "
                    "frozen_pair_anchor{}; no_anchor{} goes with LoRA-One, GoRA and LoRA-SB, which mean it");
    else if constexpr (!meant)
      static_assert(meant,
                    "this start is to be anchored, by in_place_anchor{} or frozen_pair_anchor{}; an ablation that lets "
                    "the model start changed says unanchored{}");
    else if constexpr (!writable)
      static_assert(
          writable,
          "this anchor writes W: give a view of W that is not const, or frozen_pair_anchor{}, which needs none");
    else if constexpr (!in_place)
      static_assert(in_place, "this adapter prunes its start, so W cannot hold it: use frozen_pair_anchor{}");
    else
      static_assert(trainable,
                    "LoRA-GA gives A and B different triplets, so R's gradient BT*G*AT is 0 and lora_sb never trains: "
                    "start it with lora_sb_init, lora_one_init or pissa_init");
  }
};

}  // namespace loraga::detail
