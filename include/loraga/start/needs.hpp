#pragma once
#include <loraga/linalg/reductions.hpp>
#include <loraga/start/layer.hpp>

// What initialisers need, one small class each; see the concept Need. A new kind of need is one more of these, in a
// header of its own: docs/contract.md has one.

namespace loraga {

/// What `initialise` takes for a layer's source: it says how many micro-batches it saw, and the sum of their weights.
template <class S>
concept Source = requires(S const& s) {
  { s.count() } -> std::convertible_to<index_t>;
  { s.weight() } -> std::convertible_to<double>;
};

namespace detail {

/// Throws unless the layer has a source, and one that saw something.
template <class L>
void require_source(L const& l, std::string const& where, char const* what, char const* expected, bool sampled) {
  if (!l.source) raise<value_error>(where, what, "null", expected);
  if (sampled && l.source->count() == 0)
    raise<state_error>(where, what, "an empty accumulator", "at least one micro-batch added");
}
template <class L>
void require_gradient(L const& l, std::string const& where, bool sampled) {
  if (l.source && (l.source->rows() != l.adapter->out() || l.source->cols() != l.adapter->in()))
    raise<shape_error>(where, "gradient", shape_text(l.source->rows(), l.source->cols()),
                       shape_text(l.adapter->out(), l.adapter->in()));
  require_source(l, where, "gradient", "an accumulator", sampled);
}
template <class L>
void require_weight_view(L const& l, std::string const& where) {
  if (l.weight.data == nullptr)
    raise<value_error>(where, "W", "not given", "a view of W, which the initialiser or the anchor needs");
}
/// The sources of layers, for the batched calls of accumulators.
template <class L>
auto sources_of(std::span<L const* const> layers) {
  std::vector<layer_source<L> const*> all;
  for (auto const* l : layers) all.push_back(l->source);
  return all;
}

}  // namespace detail

/// The need for the `count` leading triplets of the mean gradient, handed on as svd_factors. It is met by a
/// GradientAccumulator and an SvdMethod.
/// errors  value_error, state_error for a source that is null or empty; shape_error for one of another shape, or one
///         that keeps fewer triplets
struct gradient_triplets {
  static constexpr bool in_steps = true;
  index_t count = 1;

  /// Whether what is measured depends on no flag, so that flags may be read later.
  template <class L>
  static constexpr bool takes_unread = [] {
    if constexpr (requires { layer_source<L>::takes_unread; }) return layer_source<L>::takes_unread;
    else return false;
  }();

  template <class B, class L, class Svd>
  static constexpr bool met = GradientAccumulator<layer_source<L>, B>&& SvdMethod<Svd, B>;
  template <class B, class L, class Svd>
  static constexpr void explain() {
    using S = layer_source<L>;
    constexpr bool has_shape = requires(S const& s) { s.rows(), s.cols(); };
    static_assert(has_shape,
                  "this initialiser needs the layer's gradient: give an accumulator, such as incremental_gradient");
    if constexpr (has_shape)
      static_assert(GradientAccumulator<S, B>, "this accumulator lacks something for this backend: see the note below");
    static_assert(SvdMethod<Svd, B>, "this initialiser needs an SVD method for this backend, such as automatic_svd");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool sampled) const {
    detail::require_gradient(l, where, sampled);
    if constexpr (requires { l.source->most_triplets(); })
      if (count > l.source->most_triplets())
        raise<shape_error>(where, "gradient",
                           "an estimate of " + std::to_string(l.source->most_triplets()) + " triplets",
                           std::to_string(count) + " for r = " + std::to_string(l.adapter->rank()) +
                               ": give gradient_options the adapter's rank, or a larger width");
  }
  template <class B, class L, class Svd>
  auto measure(B& be, std::span<L const* const> layers, Svd const& svd) const {
    using S = layer_source<L>;
    auto const sources = detail::sources_of(layers);
    auto found = S::top(be, svd, std::span<S const* const>(sources), count);
    auto const& first = *layers[0]->adapter;
    require_shape(found[0].u, first.out(), count, "initialise", "U of the accumulator's top");
    require_shape(found[0].v, first.in(), count, "initialise", "V of the accumulator's top");
    return found;
  }
};

/// The need for the mean gradient itself, handed on as a view that lasts until the next layer's. It is met by a
/// ReadableGradient.
/// errors  value_error, state_error for a source that is null or empty; shape_error for one of another shape
struct whole_gradient {
  template <class B, class L, class Svd>
  static constexpr bool met = ReadableGradient<layer_source<L>, B>;
  template <class B, class L, class Svd>
  static constexpr void explain() {
    constexpr bool gradient = ReadableGradient<layer_source<L>, B>;
    static_assert(gradient,
                  "this initialiser needs the layer's whole gradient: give an accumulator with estimate(), such as "
                  "dense_gradient");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool sampled) const {
    detail::require_gradient(l, where, sampled);
  }
  /// What measure gives: one layer's gradient after the other, in memory for one.
  template <class B, class L>
  struct reader {
    using T = typename layer_source<L>::value_type;  ///< of the gradient
    B& be;                                           ///< that reads it
    std::span<L const* const> layers;                ///< of one shape
    matrix<T, B> memory;                             ///< for one gradient
    std::vector<int> flags;
    const_view<T, typename B::space> operator[](index_t layer) {
      auto const i = static_cast<std::size_t>(layer);
      layers[i]->source->estimate(be, memory.view());
      scratch<B> temporary(be);
      auto const cell = temporary.template matrix<double>(1, 1);
      max_abs(be, memory.view(), cell);
      double const size = read_scalar(be, cell);
      flags[i] = size == 0 ? svd_zero : is_finite(size) ? svd_usable : svd_not_finite;
      return memory.view();
    }
  };
  template <class B, class L, class Svd>
  reader<B, L> measure(B& be, std::span<L const* const> layers, Svd const&) const {
    auto const& first = *layers[0]->adapter;
    return {be, layers, {be, first.out(), first.in()}, std::vector<int>(layers.size(), svd_usable)};
  }
};

namespace detail {

/// The leading triplets of W, as svd_factors; `count` 0 for none. With Always a call without W does not compile.
template <bool Always>
struct triplets_of_weight {
  static constexpr bool in_steps = true;
  index_t count = 0;

  template <class>
  static constexpr bool takes_unread = true;

  template <class B, class L, class Svd>
  static constexpr bool met = !Always || (layer_parts<L>::has_weight && SvdMethod<Svd, B>);
  template <class B, class L, class Svd>
  static constexpr void explain() {
    constexpr bool svd = !Always || SvdMethod<Svd, B>;
    static_assert(!Always || layer_parts<L>::has_weight, "this initialiser needs W: give a view of it");
    static_assert(svd, "this initialiser needs an SVD method for this backend, such as automatic_svd");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool) const {
    if (count > 0) require_weight_view(l, where);
  }
  template <class B, class L, class Svd>
  auto measure(B& be, std::span<L const* const> layers, Svd const& svd) const {
    using T = compute_t<typename layer_parts<L>::weight_element>;
    if constexpr (layer_parts<L>::has_weight && SvdMethod<Svd, B>)
      if (count > 0) {
        std::vector<decltype(weight_of<B>(*layers[0]))> weights;
        for (auto const* l : layers) weights.push_back(weight_of<B>(*l));
        index_t const most = std::min(weights[0].rows, weights[0].cols);
        return svd.top(be, view_list(weights.data(), static_cast<index_t>(weights.size())), std::min(count, most));
      }
    return svd_result<T, B>(be, static_cast<index_t>(layers.size()), 0, 0, 0);
  }
};

/// W itself, as a const view; without Always empty where it is not at hand or not `wanted`.
template <bool Always>
struct view_of_weight {
  static constexpr bool in_steps = true;
  bool wanted = true;

  template <class>
  static constexpr bool takes_unread = true;

  template <class B, class L, class Svd>
  static constexpr bool met = !Always || layer_parts<L>::has_weight;
  template <class B, class L, class Svd>
  static constexpr void explain() {
    static_assert(!Always || layer_parts<L>::has_weight, "this initialiser needs W: give a view of it");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool) const {
    if (wanted) require_weight_view(l, where);
  }
  template <class B, class L>
  struct reader {
    std::span<L const* const> layers;
    std::vector<int> flags;
    auto operator[](index_t i) const { return weight_of<B>(*layers[static_cast<std::size_t>(i)]); }
  };
  template <class B, class L, class Svd>
  reader<B, L> measure(B&, std::span<L const* const> layers, Svd const&) const {
    return {layers, std::vector<int>(layers.size(), svd_usable)};
  }
};

}  // namespace detail

/// The need for the `count` leading triplets of W, handed on as svd_factors; all_triplets asks for all. It is met by a
/// view of W and an SvdMethod.
/// errors  value_error for a view of W that is empty
using weight_triplets = detail::triplets_of_weight<true>;
/// The need for triplets of W that only some settings of an initialiser have; a count of 0 asks for none.
using optional_weight_triplets = detail::triplets_of_weight<false>;
/// The need for W itself, handed on as a const view.
/// errors  value_error for a view of W that is empty
using whole_weight = detail::view_of_weight<true>;
/// The need for W that only some settings of an initialiser have.
using optional_weight = detail::view_of_weight<false>;

/// The need for the `count` principal directions of the layer's centred inputs, handed on as svd_factors. It is met by
/// input_statistics and an SvdMethod.
/// errors  value_error, state_error for a source that is null, empty or by_peak; shape_error for one of another size
struct input_directions {
  static constexpr bool in_steps = true;
  index_t count = 1;

  /// Whether S is like input_statistics.
  template <class S>
  static constexpr bool is_statistics = requires(S const& s) {
    s.by_peak();
    s.scatter();
  };
  template <class B, class L, class Svd>
  static constexpr bool met = is_statistics<layer_source<L>>&& SvdMethod<Svd, B>;
  template <class B, class L, class Svd>
  static constexpr void explain() {
    constexpr bool inputs = is_statistics<layer_source<L>>;
    static_assert(inputs, "this initialiser needs what the layer's inputs were: give input_statistics");
    static_assert(SvdMethod<Svd, B>, "this initialiser needs an SVD method for this backend, such as automatic_svd");
  }
  template <class L>
  void check(L const& l, std::string const& where, bool sampled) const {
    check_statistics(l, where, false, sampled);
  }
  template <class B, class L, class Svd>
  auto measure(B& be, std::span<L const* const> layers, Svd const& svd) const {
    using S = layer_source<L>;
    auto const sources = detail::sources_of(layers);
    return S::top(be, svd, std::span<S const* const>(sources), count);
  }

  /// What a need that input_statistics meet checks of them.
  template <class L>
  static void check_statistics(L const& l, std::string const& where, bool by_peak, bool sampled) {
    detail::require_source(l, where, "inputs", "input_statistics", false);
    require_shape(l.source->mean(), l.adapter->in(), 1, where, "inputs");
    detail::require_source(l, where, "inputs", "input_statistics", sampled);
    if (l.source->by_peak() != by_peak)
      raise<state_error>(where, "inputs", by_peak ? "not by_peak" : "by_peak",
                         by_peak ? "input_statistics with by_peak" : "input_statistics without by_peak");
  }
};

}  // namespace loraga
