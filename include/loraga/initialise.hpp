#pragma once
#include <loraga/anchor.hpp>
#include <loraga/concepts.hpp>
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

/// Initialises a batch of layers: factors what `init` asks for, layers of one shape and rank together, fills A and B,
/// and anchors. Everything that can be checked without work is checked first, for all layers.
/// errors  as init.check and the adapters'; numeric_error naming every layer whose gradient or weight is zero, not
///         finite, or not factored: those are left as they were, the others are initialised
template <Backend B, class A, class W, class G, Initialiser<B> I, class Svd, class Anchor>
void initialise(B& be, std::span<layer<A, W, G> const> layers, I const& init, Svd const& svd, Anchor const& anchor) {
  using space = typename B::space;
  constexpr bool from_gradient = std::is_same_v<typename I::needs, needs_gradient>;
  static_assert(!from_gradient || !std::is_same_v<G, no_gradient>, "this initialiser needs gradient accumulators");
  static_assert(std::is_same_v<typename I::needs, needs_nothing> || SvdMethod<Svd, B>,
                "this initialiser needs an SVD method");

  std::map<std::tuple<index_t, index_t, index_t>, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    A& ad = *l.adapter;
    std::string const where = "initialise(" + l.label(i) + ")";
    bool const has_weight = l.weight.data != nullptr;
    ad.check_start();
    init.check(ad.out(), ad.in(), ad.rank(), ad.scale(), has_weight);
    if (has_weight) {
      require_shape(l.weight, ad.out(), ad.in(), where, "W");
      require_matrix(l.weight, where, "W");
    }
    if constexpr (from_gradient) {
      if (l.gradient->rows() != ad.out() || l.gradient->cols() != ad.in())
        raise<shape_error>(where, "gradient", shape_text(l.gradient->rows(), l.gradient->cols()),
                           shape_text(ad.out(), ad.in()));
      if (l.gradient->count() == 0)
        raise<state_error>(where, "gradient", "an empty accumulator", "at least one micro-batch added");
    }
    groups[{ad.out(), ad.in(), ad.rank()}].push_back(i);
  }

  std::string bad;
  for (auto const& group : groups) {
    auto const& members = group.second;
    index_t const rank = std::get<2>(group.first);
    auto const count = static_cast<index_t>(members.size());
    std::vector<int> flags(members.size(), svd_usable);
    auto const note = [&](auto const& result) {
      for (std::size_t i = 0; i < members.size(); ++i) flags[i] |= result.flags[i];
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
    using weight_element = typename W::value_type;
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
      auto const& l = layers[members[i]];
      if (flags[i] != svd_usable) {
        bad += (bad.empty() ? "" : "; ") + l.label(members[i]) + " is " + describe_flags(flags[i]);
        continue;
      }
      using GT = std::remove_const_t<typename decltype(gradient_factors[0].u)::value_type>;
      init_context<GT, compute_t<weight_element>, space> context;
      context.layer = static_cast<index_t>(members[i]);
      context.scale = l.adapter->scale();
      if constexpr (from_gradient) {
        auto const f = gradient_factors[static_cast<index_t>(i)];
        context.gradient = {f.u, f.s, f.v};
      }
      if (weight_triplets > 0) {
        auto const f = weight_factors[static_cast<index_t>(i)];
        context.weight = {f.u, f.s, f.v};
      }
      init.fill(be, context, l.weight, l.adapter->a(), l.adapter->b());
      l.adapter->start(be);
      if constexpr (!I::starts_at_zero) anchor.apply(be, *l.adapter, l.weight);
    }
  }
  if (!bad.empty())
    throw numeric_error("initialise: " + bad + "; expected finite, non-zero numbers (these layers are unchanged)");
}

/// One layer from its gradient: LoRA-GA. W may be const with frozen_pair_anchor.
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd,
          GradientAccumulator<B> G, class Anchor>
requires std::same_as<typename I::needs, needs_gradient>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, G const& gradient, Anchor const& anchor) {
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
template <Backend B, Adapter<B> A, Initialiser<B> I, ViewIn<typename B::space> W, SvdMethod<B> Svd, class Anchor>
requires std::same_as<typename I::needs, needs_weight>
void initialise(B& be, A& adapter, I const& init, W w, Svd const& svd, Anchor const& anchor) {
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
