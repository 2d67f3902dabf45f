#pragma once
#include <loraga/start/arguments.hpp>

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

}  // namespace detail

/// Throws what `initialise` would refuse before any work, and changes nothing. With `sampled` = false accumulators may
/// be empty. Called so before the sample is drawn, it spares a sample that would have been for nothing.
/// errors  as `initialise` before any change
/// cost    no work on the device
template <detail::LayerRange R, class I, Anchor X>
void check_layers(R const& layers, I const& init, X const& anchor, bool sampled = true) {
  auto const* const first = std::ranges::data(layers);
  for (std::size_t i = 0; i < std::ranges::size(layers); ++i) {
    auto const& l = first[i];
    std::string const where = "initialise(" + l.label(i) + ")";
    detail::check_layer(l, where, init, anchor, sampled);
    for (std::size_t j = 0; j < i; ++j) {
      if (first[j].adapter == l.adapter)
        raise<state_error>(where, "adapter", "that of " + first[j].label(j), "each adapter once");
      if (overlap(std::as_const(*l.adapter).a(), std::as_const(*first[j].adapter).a()) ||
          overlap(std::as_const(*l.adapter).b(), std::as_const(*first[j].adapter).b()))
        raise<alias_error>(where, "A or B", "that of " + first[j].label(j), "memory of its own");
      if constexpr (X::changes_weight && I::starts != start_kind::at_zero &&
                    detail::layer_parts<std::ranges::range_value_t<R>>::has_weight)
        require_distinct(l.weight, first[j].weight, where, "W", "another W");
    }
  }
}

}  // namespace loraga
