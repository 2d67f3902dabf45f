#pragma once
#include <loraga/anchor.hpp>
#include <loraga/linalg/reductions.hpp>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace loraga {

/// Stand-ins where a layer has no W or no gradient to show.
template <class Space>
using no_weight = matrix_view<float const, Space>;
struct no_gradient {};
struct no_svd {};

/// One layer of a batch to initialise. Views and pointers are borrowed for the call.
template <class A, class W, class G = no_gradient>
struct layer {
  A* adapter;
  W weight;
  G const* gradient = nullptr;
  std::string name = {};  ///< for messages

  std::string label(std::size_t position) const { return name.empty() ? "layer " + std::to_string(position) : name; }
};

/// Throws what can be known before any work; changes nothing.
template <class A, class W, class G, class I, Anchor X>
void check_layers(std::span<layer<A, W, G> const> layers, I const& init, X const&) {
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
    } else if ((X::changes_weight && !I::starts_at_zero) || init.weight_triplets(ad.rank()) > 0) {
      raise<value_error>(where, "W", "not given", "a view of W, which the initialiser or the anchor needs");
    }
    if constexpr (std::is_same_v<typename I::needs, needs_gradient>) {
      if (!l.gradient) raise<value_error>(where, "gradient", "null", "an accumulator");
      if (l.gradient->rows() != ad.out() || l.gradient->cols() != ad.in())
        raise<shape_error>(where, "gradient", shape_text(l.gradient->rows(), l.gradient->cols()),
                           shape_text(ad.out(), ad.in()));
      if (l.gradient->count() == 0)
        raise<state_error>(where, "gradient", "an empty accumulator", "at least one micro-batch added");
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
///         whose gradient or weight is zero, not finite or not factored, or whose A or B would not be finite: those are
///         left as they were, the others are initialised; backend_error naming the layer at which memory ran out or the
///         device failed
template <Backend B, class A, class W, class G, Initialiser<B> I, class Svd, Anchor X>
void initialise(B& be, std::span<layer<A, W, G> const> layers, I const& init, Svd const& svd, X const& anchor) {
  using space = typename B::space;
  using value = typename A::value_type;
  using weight_element = typename W::value_type;
  constexpr bool from_gradient = std::is_same_v<typename I::needs, needs_gradient>;
  static_assert(!from_gradient || !std::is_same_v<G, no_gradient>, "this initialiser needs gradient accumulators");
  static_assert(std::is_same_v<typename I::needs, needs_nothing> || SvdMethod<Svd, B>,
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
  matrix<double, B> largest(be, 2, static_cast<index_t>(layers.size()));
  fill(be, largest.view(), 0);

  for (auto const& group : groups) {
    auto const& members = group.second;
    index_t const rank = std::get<2>(group.first);
    auto const count = static_cast<index_t>(members.size());
    auto const note = [&](auto const& result) {
      for (std::size_t i = 0; i < members.size(); ++i) flags[members[i]] |= result.flags[i];
    };
    auto gradient_factors = [&] {
      if constexpr (from_gradient) {
        std::vector<G const*> gradients;
        for (auto const i : members) gradients.push_back(layers[i].gradient);
        auto result = G::top(be, svd, std::span<G const* const>(gradients), init.gradient_triplets(rank));
        note(result);
        return result;
      } else {
        return svd_result<float, B>(be, 0, 0, 0, 0);
      }
    }();
    svd_result<compute_t<weight_element>, B> weight_factors(be, 0, 0, 0, 0);
    index_t const weight_triplets = init.weight_triplets(rank);
    if constexpr (!std::is_same_v<Svd, no_svd>)
      if (weight_triplets > 0) {
        std::vector<matrix_view<weight_element const, space>> weights;
        for (auto const i : members) weights.push_back(layers[i].weight);
        weight_factors = svd.top(be, view_list(weights.data(), count), weight_triplets);
        note(weight_factors);
      }

    for (std::size_t i = 0; i < members.size(); ++i) {
      if (flags[members[i]] != svd_usable) continue;
      auto const& l = layers[members[i]];
      using GT = std::remove_const_t<typename decltype(gradient_factors[0].u)::value_type>;
      init_context<GT, compute_t<weight_element>, space> context;
      context.layer = static_cast<index_t>(members[i]);
      context.scale = l.adapter->scale();
      auto const member = static_cast<index_t>(i);
      if constexpr (from_gradient) {
        auto const f = gradient_factors[member];
        context.gradient = {f.u, f.s, f.v};
      }
      if (weight_triplets > 0) {
        auto const f = weight_factors[member];
        context.weight = {f.u, f.s, f.v};
      }
      auto& to = beginnings[members[i]];
      to = {{be, l.adapter->in(), rank}, {be, l.adapter->out(), rank}};
      init.fill(be, context, l.weight, to.a.view().transposed(), to.b.view());
      auto const cells = largest.view().columns(context.layer, 1);
      max_abs(be, to.a.view(), cells.row_range(0, 1));
      max_abs(be, to.b.view(), cells.row_range(1, 1));
    }
  }

  auto const sizes = read_all(be, largest.view());
  std::string bad;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    bool const finite = is_finite(sizes[2 * i]) && is_finite(sizes[2 * i + 1]);
    if (flags[i] != svd_usable || !finite) {
      bad += (bad.empty() ? "" : "; ") + l.label(i) + " is " + describe_flags(flags[i]);
      if (!finite) bad += " but leads to A or B that are not finite (gamma, s, or a zero or not finite W)";
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

/// One layer from its gradient: LoRA-GA. W may be const with frozen_pair_anchor.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd,
          GradientAccumulator<B> G, Anchor X>
requires std::same_as<typename I::needs, needs_gradient>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, G const& gradient, X const& anchor) {
  layer<A, W, G> const one[] = {{&adapter, w, &gradient}};
  initialise(be, std::span<layer<A, W, G> const>(one), init, svd, anchor);
}

/// The same without W at hand (quantised, sharded or mapped bases).
template <Backend B, Adapter<B> A, Initialiser<B> I, SvdMethod<B> Svd, GradientAccumulator<B> G>
requires std::same_as<typename I::needs, needs_gradient>
void initialise(B& be, A& adapter, I const& init, Svd const& svd, G const& gradient, frozen_pair_anchor anchor) {
  initialise(be, adapter, init, no_weight<typename B::space>{}, svd, gradient, anchor);
}

/// One layer from its weight: PiSSA.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd, Anchor X>
requires std::same_as<typename I::needs, needs_weight>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, X const& anchor) {
  layer<A, W> const one[] = {{&adapter, w}};
  initialise(be, std::span<layer<A, W> const>(one), init, svd, anchor);
}

/// One layer from random numbers that leave the model unchanged: LoRA's own starts.
template <Backend B, Adapter<B> A, Initialiser<B> I>
requires(std::same_as<typename I::needs, needs_nothing>&& I::starts_at_zero) void initialise(B& be, A& adapter,
                                                                                             I const& init) {
  layer<A, no_weight<typename B::space>> const one[] = {{&adapter, {}}};
  initialise(be, std::span<layer<A, no_weight<typename B::space>> const>(one), init, no_svd{}, frozen_pair_anchor{});
}

}  // namespace loraga
