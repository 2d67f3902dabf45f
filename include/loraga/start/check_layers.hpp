#pragma once
#include <algorithm>
#include <functional>
#include <loraga/start/arguments.hpp>
#include <map>
#include <optional>
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

/// Memory, and the layer that it belongs to.
struct owned_memory {
  footprint place;
  std::size_t layer;
};

/// Two layers (the later first) that share memory, if there are any. Views are met in the order of their addresses, so
/// that only neighbours are compared: 40,000 layers are no more than a sort.
inline std::optional<std::pair<std::size_t, std::size_t>> sharing_layers(std::vector<owned_memory> all) {
  std::erase_if(all, [](auto const& m) { return m.place.rows * m.place.cols == 0; });
  std::sort(all.begin(), all.end(), [](auto const& x, auto const& y) { return x.place.data < y.place.data; });
  std::vector<owned_memory> open;  // what reaches further than the memory at hand begins
  for (auto const& now : all) {
    std::erase_if(open, [&](auto const& m) { return m.place.end() <= now.place.data; });
    for (auto const& other : open)
      if (other.layer != now.layer && overlap(other.place, now.place))
        return std::pair{std::max(other.layer, now.layer), std::min(other.layer, now.layer)};
    open.push_back(now);
  }
  return {};
}

/// What layers may not share, and what they are called. No template: every combination of types that starts would
/// otherwise compile it again, which was a third of what `initialise` costs.
class distinct_layers {
  using naming = std::function<std::string(std::size_t)>;
  std::string where_;
  naming label_;
  std::map<void const*, std::size_t> adapters_;

 public:
  distinct_layers(char const* where, naming label) : where_(where), label_(std::move(label)) {}

  std::string where(std::size_t i) const { return where_ + "(" + label_(i) + ")"; }
  void add(void const* adapter, std::size_t i) {
    auto const [at, fresh] = adapters_.emplace(adapter, i);
    if (!fresh) raise<state_error>(where(i), "adapter", "that of " + label_(at->second), "each adapter once");
  }
  void check(std::vector<owned_memory> all, char const* what, char const* expected) const {
    if (auto const two = sharing_layers(std::move(all)))
      raise<alias_error>(where(two->first), what, "overlapping that of " + label_(two->second), expected);
  }
  static constexpr char const* own_weight = "a W that no other layer has, or a frozen pair";
};

}  // namespace detail

/// Throws what `initialise` would refuse before any work, and changes nothing. With `sampled` = false accumulators may
/// be empty. Called so before the sample is drawn, it spares a sample that would have been for nothing.
/// errors  as `initialise` before any change
/// cost    no work on the device
template <detail::LayerRange R, class I, Anchor X>
void check_layers(R const& layers, I const& init, X const& anchor, bool sampled = true) {
  using L = element_of<R const>;
  auto const all = elements_of(layers);
  detail::distinct_layers distinct("initialise", [&all](std::size_t i) { return all[i].label(i); });
  std::vector<detail::owned_memory> a, b, weights;
  for (std::size_t i = 0; i < all.size(); ++i) {
    detail::check_layer(all[i], distinct.where(i), init, anchor, sampled);
    distinct.add(all[i].adapter, i);
    a.push_back({detail::footprint::of(std::as_const(*all[i].adapter).a()), i});
    b.push_back({detail::footprint::of(std::as_const(*all[i].adapter).b()), i});
    if constexpr (X::changes_weight && I::starts != start_kind::at_zero && detail::layer_parts<L>::has_weight)
      weights.push_back({detail::footprint::of(all[i].weight), i});
  }
  distinct.check(std::move(a), "A", "memory of its own");
  distinct.check(std::move(b), "B", "memory of its own");
  distinct.check(std::move(weights), "W", detail::distinct_layers::own_weight);
}

}  // namespace loraga
