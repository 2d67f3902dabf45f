#pragma once
#include <loraga/anchor.hpp>
#include <loraga/gradient/input_statistics.hpp>
#include <loraga/linalg/reductions.hpp>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace loraga {

/// Stand-ins where a layer has no W to show, or neither gradient nor input statistics.
template <class Space>
using no_weight = matrix_view<float const, Space>;
struct no_gradient {};
struct no_svd {};

/// What an overload below asks of the initialiser and the anchor.
template <class I, class N>
concept Needs = std::same_as<typename I::needs, N>;
template <class I, class N>
concept StartsAtZero = Needs<I, N> && I::starts_at_zero;
template <class I, class N>
concept ChangesModel = Needs<I, N> && !I::starts_at_zero;
template <class X>
concept LeavesWeight = Anchor<X> && !X::changes_weight;

/// One layer of a batch to initialise. Views and pointers are borrowed for the call.
template <class A, class W, class G = no_gradient>
struct layer {
  A* adapter;
  W weight;
  G const* source = nullptr;  ///< a gradient accumulator or input_statistics, as the initialiser needs
  std::string name = {};      ///< for messages

  std::string label(std::size_t position) const { return layer_label(name, position); }
};

/// Throws what can be known before any work; changes nothing. Before the sample (`sampled` = false) accumulators may be
/// empty: a call then, with the layers to come, saves a sample that would have been for nothing.
template <class A, class W, class G, class I, Anchor X>
void check_layers(std::span<layer<A, W, G> const> layers, I const& init, X const&, bool sampled = true) {
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    std::string const where = "initialise(" + l.label(i) + ")";
    if (!l.adapter) raise<value_error>(where, "adapter", "null", "an adapter");
    A const& ad = *l.adapter;
    bool const has_weight = l.weight.data != nullptr;
    ad.check_start();
    init.check(ad.out(), ad.in(), ad.rank(), ad.scale(), has_weight);
    if (has_weight) {
      require_shape(l.weight, ad.out(), ad.in(), where, "W");
      require_matrix(l.weight, where, "W");
    } else if ((X::changes_weight && !I::starts_at_zero) || init.weight_triplets(ad.rank()) > 0 ||
               Needs<I, needs_plain_weight>) {
      raise<value_error>(where, "W", "not given", "a view of W, which the initialiser or the anchor needs");
    }
    if constexpr (Needs<I, needs_gradient> || Needs<I, needs_whole_gradient> || Needs<I, needs_inputs>) {
      constexpr bool inputs = Needs<I, needs_inputs>;
      char const* const what = inputs ? "inputs" : "gradient";
      if (!l.source) raise<value_error>(where, what, "null", inputs ? "input_statistics" : "an accumulator");
      if constexpr (inputs) require_shape(l.source->mean(), ad.in(), 1, where, what);
      else if (l.source->rows() != ad.out() || l.source->cols() != ad.in())
        raise<shape_error>(where, what, shape_text(l.source->rows(), l.source->cols()), shape_text(ad.out(), ad.in()));
      if constexpr (requires { l.source->most_triplets(); } && Needs<I, needs_gradient>)
        if (index_t const k = init.gradient_triplets(ad.rank()); k > l.source->most_triplets())
          raise<shape_error>(where, what, "an estimate of " + std::to_string(l.source->most_triplets()) + " triplets",
                             std::to_string(k) + " for r = " + std::to_string(ad.rank()) +
                                 ": give incremental_options the adapter's rank, or a larger width");
      if (sampled && l.source->count() == 0)
        raise<state_error>(where, what, "an empty accumulator", "at least one micro-batch added");
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (layers[j].adapter == l.adapter)
        raise<state_error>(where, "adapter", "that of " + layers[j].label(j), "each adapter once");
      if (X::changes_weight && !I::starts_at_zero)
        require_distinct(l.weight, layers[j].weight, where, "W", "another W");
    }
  }
}

/// Initialises a batch of layers: factors what `init` asks for, layers of one shape and rank together, fills A and B,
/// and anchors. New values are made beside the old ones and looked at before any layer changes.
/// errors  all that check_layers, init.check and `svd` refuse, before any change; then numeric_error naming every layer
///         whose gradient, inputs or weight are zero, not finite or not factored, or whose A or B would not be finite,
///         or both be zero: those are left as they were, the others are initialised; backend_error naming the layer at
///         which memory ran out or the device failed
template <Backend B, class A, class W, class G, Initialiser<B> I, class Svd, Anchor X>
void initialise(B& be, std::span<layer<A, W, G> const> layers, I const& init, Svd const& svd, X const& anchor) {
  using space = typename B::space;
  using value = typename A::value_type;
  using weight_element = typename W::value_type;
  constexpr bool from_gradient = Needs<I, needs_gradient>, from_whole = Needs<I, needs_whole_gradient>;
  constexpr bool from_inputs = Needs<I, needs_inputs>;
  static_assert(!from_gradient || GradientAccumulator<G, B>, "this initialiser needs gradient accumulators");
  static_assert(!from_whole || ReadableGradient<G, B>, "this initialiser needs accumulators with estimate()");
  static_assert(
      !from_inputs || requires(G const& g) { g.by_peak(); }, "this initialiser needs input_statistics");
  static_assert(Needs<I, needs_nothing> || Needs<I, needs_plain_weight> || from_whole || SvdMethod<Svd, B>,
                "this initialiser needs an SVD method");
  check_layers(layers, init, anchor);

  std::map<std::tuple<index_t, index_t, index_t>, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    A const& ad = *layers[i].adapter;
    groups[{ad.out(), ad.in(), ad.rank()}].push_back(i);
  }
  struct beginning {
    matrix<value, B> a, b;  // A as in x r
  };
  std::vector<beginning> beginnings(layers.size());
  std::vector<int> flags(layers.size(), svd_usable);
  matrix<double, B> largest(be, 3, static_cast<index_t>(layers.size()));  // of A, B, and a whole gradient
  fill(be, largest.view(), 0);

  for (auto const& group : groups) {
    auto const& members = group.second;
    index_t const rank = std::get<2>(group.first);
    auto const count = static_cast<index_t>(members.size());
    auto const note = [&](auto const& result) {
      for (std::size_t i = 0; i < members.size(); ++i) flags[members[i]] |= result.flags[i];
    };
    std::vector<matrix_view<weight_element const, space>> weights;
    std::vector<G const*> sources;
    for (auto const i : members) weights.push_back(layers[i].weight), sources.push_back(layers[i].source);
    auto source_factors = [&] {
      std::span<G const* const> const all(sources);
      if constexpr (from_gradient) {
        auto result = G::top(be, svd, all, init.gradient_triplets(rank));
        note(result);
        return result;
      } else if constexpr (from_inputs) {
        auto result = init.factors(be, svd, std::span(std::as_const(weights)), all, rank);
        note(result);
        return result;
      } else if constexpr (from_whole) {
        return svd_result<typename G::value_type, B>(be, 0, 0, 0, 0);
      } else {
        return svd_result<float, B>(be, 0, 0, 0, 0);
      }
    }();
    svd_result<compute_t<weight_element>, B> weight_factors(be, 0, 0, 0, 0);
    index_t const weight_triplets =
        std::min({init.weight_triplets(rank), std::get<0>(group.first), std::get<1>(group.first)});
    if constexpr (!std::is_same_v<Svd, no_svd>)
      if (weight_triplets > 0) {
        weight_factors = svd.top(be, view_list(weights.data(), count), weight_triplets);
        note(weight_factors);
      }

    using GT = std::remove_const_t<typename decltype(source_factors[0].u)::value_type>;
    matrix<GT, B> whole_gradient;  // of one layer after the other
    if constexpr (from_whole) whole_gradient = {be, std::get<0>(group.first), std::get<1>(group.first)};

    for (std::size_t i = 0; i < members.size(); ++i) {
      if (flags[members[i]] != svd_usable) continue;
      auto const& l = layers[members[i]];
      init_context<GT, compute_t<weight_element>, space> context;
      context.layer = static_cast<index_t>(members[i]);
      context.scale = l.adapter->scale();
      auto const member = static_cast<index_t>(i);
      if constexpr (from_gradient || from_inputs) {
        auto const f = source_factors[member];
        (from_gradient ? context.gradient : context.measured) = {f.u, f.s, f.v};
      }
      if (weight_triplets > 0) {
        auto const f = weight_factors[member];
        context.weight = {f.u, f.s, f.v};
      }
      auto const cells = largest.view().columns(context.layer, 1);
      if constexpr (from_whole) {
        l.source->estimate(be, whole_gradient.view());
        max_abs(be, whole_gradient.view(), cells.row_range(2, 1));
        context.whole_gradient = whole_gradient.view();
      }
      auto& to = beginnings[members[i]];
      to = {{be, l.adapter->in(), rank}, {be, l.adapter->out(), rank}};
      try {
        init.fill(be, context, l.weight, to.a.view().transposed(), to.b.view());
      } catch (numeric_error const&) {
        flags[members[i]] |= svd_not_finite;
        continue;
      }
      max_abs(be, to.a.view(), cells.row_range(0, 1));
      max_abs(be, to.b.view(), cells.row_range(1, 1));
    }
  }

  auto const sizes = read_all(be, largest.view());
  std::string bad;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    double const a_size = sizes[3 * i], b_size = sizes[3 * i + 1], gradient_size = sizes[3 * i + 2];
    if (from_whole && flags[i] == svd_usable && !(gradient_size > 0 && is_finite(gradient_size)))
      flags[i] = gradient_size == 0 ? svd_zero : svd_not_finite;
    bool const finite = is_finite(a_size) && is_finite(b_size);
    bool const alive = b_size != 0 || (!from_whole && a_size != 0);
    if (flags[i] != svd_usable || !finite || !alive) {
      bad += (bad.empty() ? "" : "; ") + l.label(i) + " is " + describe_flags(flags[i]);
      if (flags[i] == svd_usable && !finite)
        bad += " but leads to A or B that are not finite (gamma, step, s, or a zero or not finite W)";
      else if (flags[i] == svd_usable)
        bad += from_whole ? " but too small: B would be 0" : " but leads to A = B = 0, which never learns";
      continue;
    }
    const_view<value, space> const a = beginnings[i].a.view().transposed(), b = beginnings[i].b.view();
    try {
      if constexpr (!I::starts_at_zero) anchor.apply(be, *l.adapter, l.weight, a, b);
      l.adapter->start(be, a, b);
    } catch (backend_error const& failure) {
      throw backend_error("initialise(" + l.label(i) + "): " + failure.what() +
                              "; layers before it are initialised, it and those after it are as they were" +
                              (bad.empty() ? "" : "; " + bad),
                          failure.code);
    }
  }
  if (!bad.empty())
    throw numeric_error("initialise: " + bad + "; expected finite, non-zero numbers (these layers are unchanged)");
}

/// One layer from its gradient: LoRA-GA, LoRA-One. W may be const unless the anchor changes it.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd,
          GradientAccumulator<B> G, Anchor X>
requires Needs<I, needs_gradient>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, G const& gradient, X const& anchor) {
  layer<A, W, G> const one[] = {{&adapter, w, &gradient}};
  initialise(be, std::span<layer<A, W, G> const>(one), init, svd, anchor);
}

/// The same without W at hand (quantised, sharded or mapped bases).
template <Backend B, Adapter<B> A, Initialiser<B> I, SvdMethod<B> Svd, GradientAccumulator<B> G, Anchor X>
requires Needs<I, needs_gradient> && LeavesWeight<X>
void initialise(B& be, A& adapter, I const& init, Svd const& svd, G const& gradient, X const& anchor) {
  initialise(be, adapter, init, no_weight<typename B::space>{}, svd, gradient, anchor);
}

/// One layer from its gradient as it is: GoRA.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, ReadableGradient<B> G, Anchor X>
requires Needs<I, needs_whole_gradient>
void initialise(B& be, A& adapter, I const& init, W w, G const& gradient, X const& anchor) {
  layer<A, W, G> const one[] = {{&adapter, w, &gradient}};
  initialise(be, std::span<layer<A, W, G> const>(one), init, no_svd{}, anchor);
}

/// The same without W at hand.
template <Backend B, Adapter<B> A, Initialiser<B> I, ReadableGradient<B> G, Anchor X>
requires Needs<I, needs_whole_gradient> && LeavesWeight<X>
void initialise(B& be, A& adapter, I const& init, G const& gradient, X const& anchor) {
  initialise(be, adapter, init, no_weight<typename B::space>{}, gradient, anchor);
}

/// One layer from its weight's triplets: PiSSA, MiLoRA.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, class Svd, Anchor X>
requires Needs<I, needs_weight> && SvdMethod<Svd, B>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, X const& anchor) {
  layer<A, W> const one[] = {{&adapter, w}};
  initialise(be, std::span<layer<A, W> const>(one), init, svd, anchor);
}

/// One layer from its inputs, where that changes the model: CorDA.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd, class T, Anchor X>
requires ChangesModel<I, needs_inputs>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, input_statistics<B, T> const& inputs,
                X const& anchor) {
  layer<A, W, input_statistics<B, T>> const one[] = {{&adapter, w, &inputs}};
  initialise(be, std::span<layer<A, W, input_statistics<B, T>> const>(one), init, svd, anchor);
}

/// One layer from its inputs, where that leaves the model unchanged: EVA.
template <Backend B, Adapter<B> A, Initialiser<B> I, SvdMethod<B> Svd, class T>
requires StartsAtZero<I, needs_inputs>
void initialise(B& be, A& adapter, I const& init, Svd const& svd, input_statistics<B, T> const& inputs) {
  using one_layer = layer<A, no_weight<typename B::space>, input_statistics<B, T>>;
  one_layer const one[] = {{&adapter, {}, &inputs}};
  initialise(be, std::span<one_layer const>(one), init, svd, frozen_pair_anchor{});
}

/// One layer from its weight as it is, or from random numbers that would change the model: OLoRA, a Gaussian pair.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, Anchor X>
requires Needs<I, needs_plain_weight> || ChangesModel<I, needs_nothing>
void initialise(B& be, A& adapter, I const& init, W w, X const& anchor) {
  layer<A, W> const one[] = {{&adapter, w}};
  initialise(be, std::span<layer<A, W> const>(one), init, no_svd{}, anchor);
}

/// The same without W at hand, from random numbers.
template <Backend B, Adapter<B> A, Initialiser<B> I, Anchor X>
requires ChangesModel<I, needs_nothing> && LeavesWeight<X>
void initialise(B& be, A& adapter, I const& init, X const& anchor) {
  initialise(be, adapter, init, no_weight<typename B::space>{}, anchor);
}

/// One layer from random numbers that leave the model unchanged: LoRA's own starts.
template <Backend B, Adapter<B> A, Initialiser<B> I>
requires StartsAtZero<I, needs_nothing>
void initialise(B& be, A& adapter, I const& init) {
  layer<A, no_weight<typename B::space>> const one[] = {{&adapter, {}}};
  initialise(be, std::span<layer<A, no_weight<typename B::space>> const>(one), init, no_svd{}, frozen_pair_anchor{});
}

}  // namespace loraga
