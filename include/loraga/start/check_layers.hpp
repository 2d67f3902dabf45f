#pragma once
#include <algorithm>
#include <loraga/start/arguments.hpp>
#include <map>
#include <vector>

namespace loraga {

namespace detail {

template <class L, class I, class X>
void check_layer(L const& l, std::string const& where, I const& init, X const&, bool sampled) {
  if (!l.adapter) raise<value_error>(where, "adapter", "null", "an adapter");
  auto const facts = facts_of(l, 0);
  l.adapter->check_start();
  if constexpr (requires { l.adapter->template check_start_of<I, X>(); }) l.adapter->template check_start_of<I, X>();
  if constexpr (requires { init.check(facts); }) init.check(facts);
  if (facts.has_weight) {
    if constexpr (layer_parts<L>::has_weight) {
      require_shape(l.weight, facts.out, facts.in, where, "W");
      require_matrix(l.weight, where, "W");
    }
  } else if (X::changes_weight && I::starts != start_kind::at_zero) {
    require_weight_view(l, where);
  }
  std::apply([&](auto const&... need) { (need.check(l, where, sampled), ...); }, needs_of(init, facts));
}

/// Views of layers, and which layer each is of.
template <class V>
using owned_views = std::vector<std::pair<V, std::size_t>>;

/// Calls found(i, j), i > j, for one pair of layers whose views share memory, if there is one. Views are met in the
/// order of their addresses, so that only neighbours are compared: 40,000 layers are no more than a sort.
template <class V, class F>
void find_shared(owned_views<V> views, F const& found) {
  std::erase_if(views, [](auto const& v) { return v.first.rows * v.first.cols == 0; });
  auto const reach = [](V const& v) { return footprint::of(v).end(); };
  std::sort(views.begin(), views.end(), [](auto const& x, auto const& y) { return x.first.data < y.first.data; });
  owned_views<V> open;  // those that reach further than the view at hand begins
  for (auto const& now : views) {
    auto const begins = footprint::of(now.first).data;
    std::erase_if(open, [&](auto const& v) { return reach(v.first) <= begins; });
    for (auto const& other : open)
      if (other.second != now.second && overlap(footprint::of(other.first), footprint::of(now.first)))
        return found(std::max(other.second, now.second), std::min(other.second, now.second));
    open.push_back(now);
  }
}

}  // namespace detail

/// Throws what `initialise` would refuse before any work, and changes nothing. With `sampled` = false accumulators may
/// be empty. Called so before the sample is drawn, it spares a sample that would have been for nothing.
/// errors  as `initialise` before any change
/// cost    no work on the device
template <detail::LayerRange R, class I, Anchor X>
void check_layers(R const& layers, I const& init, X const& anchor, bool sampled = true) {
  using L = element_of<R const>;
  auto const all = elements_of(layers);
  auto const where = [&](std::size_t i) { return "initialise(" + all[i].label(i) + ")"; };
  using A = typename detail::layer_parts<L>::adapter;
  std::map<A const*, std::size_t> seen;
  detail::owned_views<decltype(std::declval<A const&>().a())> a, b;
  for (std::size_t i = 0; i < all.size(); ++i) {
    detail::check_layer(all[i], where(i), init, anchor, sampled);
    auto const [at, fresh] = seen.emplace(all[i].adapter, i);
    if (!fresh)
      raise<state_error>(where(i), "adapter", "that of " + all[at->second].label(at->second), "each adapter once");
    a.emplace_back(std::as_const(*all[i].adapter).a(), i);
    b.emplace_back(std::as_const(*all[i].adapter).b(), i);
  }
  auto const refuse = [&](char const* what, char const* expected) {
    return [&all, &where, what, expected](std::size_t i, std::size_t j) {
      raise<alias_error>(where(i), what, "overlapping that of " + all[j].label(j), expected);
    };
  };
  detail::find_shared(std::move(a), refuse("A", "memory of its own"));
  detail::find_shared(std::move(b), refuse("B", "memory of its own"));
  if constexpr (X::changes_weight && I::starts != start_kind::at_zero && detail::layer_parts<L>::has_weight) {
    detail::owned_views<decltype(all[0].weight)> weights;
    for (std::size_t i = 0; i < all.size(); ++i) weights.emplace_back(all[i].weight, i);
    detail::find_shared(std::move(weights), refuse("W", "a W that no other layer has, or a frozen pair"));
  }
}

}  // namespace loraga
