#pragma once
#include <loraga/distributed/shared_start.hpp>
#include <loraga/distributed/whole_estimate.hpp>

namespace loraga {

namespace detail {

/// The whole layer's adapter, as starts see it, of which this rank has a part: it passes on what belongs there.
template <class T, class B>
class sharded_target {
  lora<T, B>* local_;
  shard part_;
  using given = matrix_view<T const, typename B::space>;

 public:
  using value_type = T;
  sharded_target(lora<T, B>& local, shard part) : local_(&local), part_(part) {}
  index_t out() const { return part_.whole_out; }
  index_t in() const { return part_.whole_in; }
  index_t rank() const { return local_->rank(); }
  double scale() const { return local_->scale(); }
  void check_start() const { local_->check_start(); }
  template <class W>
  void subtract_start(B& be, W w, given a, given b) {
    local_->subtract_start(be, w, part_.of_a(a), part_.of_b(b));
  }
  void freeze_start(B& be, given a, given b) { local_->freeze_start(be, part_.of_a(a), part_.of_b(b)); }
  void start(B& be, given a, given b) { local_->start(be, part_.of_a(a), part_.of_b(b)); }
};
template <class A, class B>
using sharded_target_of = sharded_target<typename A::value_type, B>;

/// What a whole layer's source is, where its parts are S.
template <class S>
struct whole_source {
  using type = typename joining<inner_estimate_t<S>>::join::whole;
};
template <>
struct whole_source<no_source> {
  using type = no_source;
};

/// The layers of a sharded start, and what is known of them on all ranks.
template <class B, class C, class L>
class sharded_start {
  using parts = sharded_parts<L>;
  using A = typename parts::adapter;
  using W = typename parts::weight;
  using S = typename parts::source;
  using T = typename A::value_type;
  using target = sharded_target_of<A, B>;
  static constexpr bool has_source = !std::is_same_v<S, no_source>;

  B& be_;
  C& comm_;
  std::span<L const> layers_;
  std::vector<std::vector<part_facts>> facts_;  // by layer and rank
  std::vector<target> targets_;

  std::string where(std::size_t i) const { return "initialise_sharded(" + layers_[i].label(i) + ")"; }

 public:
  /// errors  rank_error, the same on every rank
  template <class I, class X>
  sharded_start(B& be, C& comm, std::span<L const> layers, I const& init, X const&)
      : be_(be), comm_(comm), layers_(layers) {
    auto const brought = agree_on(be, comm, "initialise_sharded by " + type_name<I>() + " and " + type_name<X>(), [&] {
      constexpr bool changes = X::changes_weight && I::starts != start_kind::at_zero;
      check_distinct(changes);
      std::string lines;
      std::vector<double> mine;
      for (std::size_t i = 0; i < layers.size(); ++i) check<I, changes>(init, i, lines).write(mine);
      return std::pair(lines, packed(mine));
    });
    for (std::size_t i = 0; i < layers.size(); ++i) {
      std::vector<part_facts> all;
      for (auto const& text : brought)
        all.push_back(part_facts::read(unpacked<double>(text), i * part_facts::numbers, layers[i].part));
      require_whole(shards_of(all), where(i), &comm);
      facts_.push_back(std::move(all));
      targets_.emplace_back(*layers[i].adapter, layers[i].part);
    }
  }

  /// Rounds in which every rank makes one layer, the costliest first; then everyone gets all.
  template <class I, class Svd>
  std::vector<beginning<T, B>> make(I const& init, Svd const& svd) {
    std::vector<beginning<T, B>> all(layers_.size());
    std::vector<std::size_t> order(layers_.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    auto const cost = [&](std::size_t i) { return layers_[i].part.whole_out * layers_[i].part.whole_in; };
    std::stable_sort(order.begin(), order.end(), [&](auto x, auto y) { return cost(x) > cost(y); });
    std::vector<int> owner(layers_.size());
    auto const ranks = static_cast<std::size_t>(comm_.size());
    for (std::size_t k = 0; k < order.size(); ++k) owner[order[k]] = static_cast<int>(k % ranks);
    for (std::size_t k = 0; k < order.size(); k += ranks)
      make_round(std::span(order).subspan(k, std::min(ranks, order.size() - k)), init, svd, all);
    std::vector<layer<target>> wholes;
    for (auto& t : targets_) wholes.push_back({&t});
    hand_round(be_, comm_, std::span<layer<target> const>(wholes), owner, all, "the end of initialise_sharded", {},
               bucket_options{});
    return all;
  }

  /// Gives every adapter its part.
  template <class I, class X>
  void commit(std::vector<beginning<T, B>>& all, X const& anchor) {
    std::string bad;
    auto const work = [&] {
      measure_sizes(be_, all);
      std::vector<layer<target, W>> here;
      for (std::size_t i = 0; i < layers_.size(); ++i)
        here.push_back({&targets_[i], layers_[i].weight, nullptr, layers_[i].label(i)});
      bad = detail::commit<I::starts>(be_, std::span<layer<target, W> const>(here), anchor, all);
    };
    together(be_, comm_, work, "initialise_sharded");
    if (!bad.empty())
      throw numeric_error("initialise_sharded: " + bad +
                          "; expected finite, non-zero numbers in what the start is made of (a gradient from dY and X, "
                          "W); these layers are unchanged");
  }

 private:
  void check_distinct(bool changes) const {
    distinct_layers distinct("initialise_sharded", [this](std::size_t i) { return layers_[i].label(i); });
    std::vector<owned_memory> weights;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      distinct.add(layers_[i].adapter, i);
      if constexpr (!std::is_same_v<W, no_weight>) weights.push_back({footprint::of(layers_[i].weight), i});
    }
    if (changes) distinct.check(std::move(weights), "W", distinct_layers::own_weight);
  }
  /// Throws what can be known before any work, and adds what has to be the same on all ranks.
  template <class I, bool Changes>
  part_facts check(I const& init, std::size_t i, std::string& lines) const {
    auto const& l = layers_[i];
    check_sharded(l, where(i));
    l.adapter->check_start();
    if constexpr (Changes) {
      require_weight_view(l, where(i));
      require_shape(l.weight, l.part.out(), l.part.in(), where(i), "W");
      require_matrix(l.weight, where(i), "W");
    }
    layer_facts const facts{l.part.whole_out, l.part.whole_in, l.adapter->rank(), l.adapter->scale(), false, i};
    if constexpr (requires { init.check(facts); }) init.check(facts);
    lines += shard_line(l.label(i), l.part, *l.adapter);
    part_facts told{l.part};
    if constexpr (has_source) {
      told = facts_of_part(l.part, l.source, where(i));
      lines += seen_line(*l.source);
    }
    lines += "\n";
    return told;
  }

  /// A and B of one whole layer, on the rank that owns it.
  template <class I, class Svd, class G>
  void make_whole(std::size_t i, G const& source, I const& init, Svd const& svd, std::vector<beginning<T, B>>& all) {
    using whole = layer<target, no_weight, G>;
    whole const one{&targets_[i], {}, &source, layers_[i].label(i)};
    check_layer(one, where(i), init, no_anchor{}, true);
    std::size_t const first = 0;
    std::vector<beginning<T, B>> made(1);
    make_some(be_, std::span(&one, 1), std::span(&first, 1), i, init, svd, made);
    all[i] = std::move(made[0]);
  }
  /// Layer k of the round is made by rank k.
  template <class I, class Svd>
  void make_round(std::span<std::size_t const> round, I const& init, Svd const& svd,
                  std::vector<beginning<T, B>>& all) {
    auto const rank = static_cast<std::size_t>(comm_.rank());
    if constexpr (has_source) {
      using G = inner_estimate_t<S>;
      std::vector<gathered_layer<G>> gathered;
      for (std::size_t k = 0; k < round.size(); ++k)
        gathered.push_back({&inner_estimate(*layers_[round[k]].source), facts_[round[k]], static_cast<int>(k)});
      auto joined = gather_parts(be_, comm_, std::span<gathered_layer<G> const>(gathered));
      auto const finish = [&] {
        if (!joined) return;
        auto const& source = *layers_[round[rank]].source;
        make_whole(round[rank], joined->finish(be_, source.weight(), source.count()), init, svd, all);
      };
      together(be_, comm_, finish, "the SVDs of initialise_sharded");
    } else {
      auto const work = [&] {
        if (rank < round.size()) make_whole(round[rank], no_source{}, init, svd, all);
      };
      together(be_, comm_, work, "the starts of initialise_sharded");
    }
  }
};

}  // namespace detail

/// initialise for layers whose W is cut among the ranks of `comm` by rows or by columns: every rank gets its parts of
/// the A and B that the whole layer would get. All ranks give the same layers in the same order, each its part. A
/// gradient is fed per part: dY_r and X by rows, dY and X_r by columns, of the same micro-batches with the same
/// weights. In a job that is data parallel as well, `combine` over that group comes first.
///   initialise_sharded(be, comm, layers, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{});
/// Behind the initialiser come an SVD method and an anchor, in any order; in_place_anchor takes the start out of every
/// part of W. Starts that need W itself (PiSSA and others) or the inputs (EVA, CorDA) do not compile: no rank has those
/// of the whole layer.
/// math    from dense_gradient, sign_gradient, offloaded_gradient: the start of the whole layer to rounding; from
///         incremental_gradient with what the parts lost; random starts: the same numbers as those of initialise
/// errors  rank_error, the same on every rank, if one of them failed, gives other layers, or the parts are not the whole;
///         numeric_error as initialise
/// cost    every rank makes one whole layer after the other, one in `ranks` of them; estimates travel to who makes the
///         layer, A and B of the whole to all
/// memory  one whole layer's estimate and two parts, and what its SVD takes; A and B of all whole layers
template <Backend B, Communicator<B> C, ContiguousRange R, class I, class... Arguments>
void initialise_sharded(B& be, C& comm, R const& layers, I const& init, Arguments const&... arguments) {
  using namespace detail;
  using L = element_of<R const>;
  using parts = sharded_parts<L>;
  using target = sharded_target_of<typename parts::adapter, B>;
  automatic_svd const usual;
  anchor_not_given const none;
  auto const& svd = pick<argument::svd, B>(usual, arguments...);
  auto const& anchor = pick<argument::anchor, B>(none, arguments...);
  using Svd = std::remove_cvref_t<decltype(svd)>;
  using X = std::remove_cvref_t<decltype(anchor)>;
  static_assert(Initialiser<I>, "the argument behind the layers is an initialiser, such as lora_ga_init{}");
  static_assert(count_of<argument::svd, B, Arguments...> + count_of<argument::anchor, B, Arguments...> ==
                        int{sizeof...(Arguments)} &&
                    count_of<argument::svd, B, Arguments...> < 2 && count_of<argument::anchor, B, Arguments...> < 2,
                "behind the initialiser come an SVD method for this backend and an anchor, each at most once");
  using whole = typename whole_source<typename parts::source>::type;
  constexpr bool met = all_needs<needs_t<I>, B, layer<target, no_weight, whole>, Svd>::met;
  static_assert(met,
                "a sharded layer starts from its gradient or from random numbers: give an accumulator where the "
                "initialiser needs one; starts from W or from inputs need the whole layer, which no rank has");
  using types = start_types<B, layer<target, typename parts::weight, whole>, I, Svd, X>;
  if constexpr (Initialiser<I> && met && !types::fit) types::explain();
  if constexpr (Initialiser<I> && met && types::fit) {
    sharded_start<B, C, L> start(be, comm, elements_of(layers), init, anchor);
    auto all = start.make(init, svd);
    start.template commit<I>(all, anchor);
  }
}

}  // namespace loraga
