#pragma once
#include <deque>
#include <loraga/initialise.hpp>
#include <loraga/torch/model_walk.hpp>

namespace loraga::libtorch {

/// Estimates the gradient of every adapted layer of a model: from here to `stop`, or its end, each backward adds what
/// the layers see. G is an accumulator of the library. Nothing is trained meanwhile; A and B get no gradient.
///   gradient_collection<incremental_gradient<cpu>> estimate(*model, {.rank = 8});
///   for (...) loss_of(batch).backward();
///   initialise(estimate, lora_ga_init{}, in_place_anchor{});
/// errors  state_error for a model without such layers, or where one is in another collection
/// memory  the accumulators'
template <class G, Element T = float, class B = cpu, Element U = T>
class gradient_collection {
  std::vector<named_layer<T, B, U>> layers_;
  std::deque<G> gradients_;
  std::vector<detail::base_tensor> tensors_;

 public:
  explicit gradient_collection(torch::nn::Module& model, gradient_options options = {}, double weight = 1)
      : layers_(adapted_layers<T, B, U>(model)), tensors_(detail::base_tensors(model)) {
    char const* const where = "gradient_collection";
    detail::require_layers(layers_, model, where);
    for (auto const& l : layers_)
      if (l.module->collecting())
        raise<state_error>(where, "layer '" + l.name + "'", "in another collection",
                           "in one at a time: call stop() of the other first, or leave its scope");
    for (auto const& l : layers_)
      l.module->with_adapter([&](B& be, auto& ad) { gradients_.emplace_back(be, ad.out(), ad.in(), options); });
    for (std::size_t i = 0; i < layers_.size(); ++i) layers_[i].module->collect(gradients_[i], weight);
  }
  gradient_collection(gradient_collection const&) = delete;
  gradient_collection& operator=(gradient_collection const&) = delete;
  ~gradient_collection() { stop(); }

  /// Ends the collecting; the estimates stay.
  void stop() {
    for (auto const& l : layers_) l.module->stop();
  }
  /// What is collected from.
  std::vector<named_layer<T, B, U>> const& layers() const { return layers_; }
  /// What the model held when this was made, beside adapters.
  std::vector<detail::base_tensor> const& tensors() const { return tensors_; }
  /// The accumulator of layer i.
  G& operator[](std::size_t i) { return gradients_[i]; }
  G const& operator[](std::size_t i) const { return gradients_[i]; }
};

namespace detail {

/// The library's initialise over layers that share a runtime. Autograd and torch's files learn of what was written,
/// also where some of the layers failed.
template <class S, Element T, class B, Element U, class F, class I, class... X>
void start_all(std::vector<named_layer<T, B, U>> const& all, std::vector<base_tensor> const& tensors,
               F const& source_of, I const& init, X const&... more) {
  using A = typename adapter_module<T, B, U>::adapter_type;
  using W = matrix_view<U, typename B::space>;
  char const* const where = "libtorch::initialise";
  constexpr bool changes = (false || ... || [] {
    if constexpr (Anchor<X>) return X::changes_weight;
    else return false;
  }());
  if constexpr (changes)
    for (auto const& l : all) require_own_weight(l.name, *l.module, tensors, where);
  auto const at_end = [&] {
    for (auto const& l : all) l.module->written();
  };
  all[0].module->with_adapter([&](B& be, auto&) {
    std::vector<layer<A, W, S>> layers;
    for (std::size_t i = 0; i < all.size(); ++i) {
      auto& m = *all[i].module;
      m.require_runtime_of(*all[0].module);
      // a weight that is no matrix matters only to those who look at it: they refuse an absent one
      auto const w = changes || m.weight_is_matrix() ? m.weight_view() : W{};
      m.with_adapter([&](B&, A& adapter) { layers.push_back({&adapter, w, source_of(i), all[i].name}); });
    }
    try {
      loraga::initialise(be, layers, init, more...);
    } catch (numeric_error const&) {  // other layers have started
      at_end();
      throw;
    }
    at_end();
  });
}

}  // namespace detail

/// Starts all adapted layers of a model: kaiming_init{}, pissa_init{}, ...; arguments behind the initialiser are those
/// of loraga::initialise (an SVD method, an anchor), but for W and sources, which the layers bring.
/// errors  as loraga::initialise; state_error for a model without adapters, or with several runtimes, or where an anchor
///         would write a W that is another module's of this model as well (tied weights)
template <Element T = float, class B = cpu, Element U = T, Initialiser I, class... X>
void initialise(torch::nn::Module& model, I const& init, X const&... more) {
  auto const all = adapted_layers<T, B, U>(model);
  detail::require_layers(all, model, "libtorch::initialise");
  detail::start_all<no_source>(
      all, detail::base_tensors(model), [](std::size_t) { return nullptr; }, init, more...);
}
/// The same from the gradients that were collected: lora_ga_init{}, ... Collecting ends.
template <class G, Element T, class B, Element U, Initialiser I, class... X>
void initialise(gradient_collection<G, T, B, U>& estimate, I const& init, X const&... more) {
  estimate.stop();
  detail::start_all<G>(
      estimate.layers(), estimate.tensors(), [&](std::size_t i) { return &std::as_const(estimate)[i]; }, init, more...);
}

}  // namespace loraga::libtorch
