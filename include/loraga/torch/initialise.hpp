#pragma once
#include <deque>
#include <loraga/initialise.hpp>
#include <loraga/torch/adapter_module.hpp>

namespace loraga::libtorch {

/// A module with an adapter, and its dotted name in the model.
template <Element T = float, class B = cpu, Element U = T>
struct named_layer {
  std::string name;                                 ///< such as "encoder.fc1"
  std::shared_ptr<adapter_module<T, B, U>> module;  ///< never null
};

/// All modules of a model that hold an adapter of these types, each once, in the order they were registered.
template <Element T = float, class B = cpu, Element U = T>
std::vector<named_layer<T, B, U>> adapted_layers(torch::nn::Module& model) {
  using module = adapter_module<T, B, U>;
  std::vector<named_layer<T, B, U>> all;
  if (auto* const itself = dynamic_cast<module*>(&model))
    all.push_back({"", std::static_pointer_cast<module>(itself->shared_from_this())});
  for (auto const& m : model.named_modules("", false)) {  // without the model, which may be on the stack
    auto const layer = std::dynamic_pointer_cast<module>(m.value());
    bool const known = std::any_of(all.begin(), all.end(), [&](auto const& l) { return l.module == layer; });
    if (layer && !known) all.push_back({m.key(), layer});
  }
  return all;
}

/// Estimates the gradient of every adapted layer of a model: from here to `stop`, or its end, each backward adds what
/// the layers see. G is an accumulator of the library. Nothing is trained meanwhile; A and B get no gradient.
///   gradient_collection<incremental_gradient<cpu>> estimate(*model, {.rank = 8});
///   for (...) loss_of(batch).backward();
///   initialise(estimate, lora_ga_init{}, in_place_anchor{});
/// errors  state_error for a model without such layers, or where one collects already
/// memory  the accumulators'
template <class G, Element T = float, class B = cpu, Element U = T>
class gradient_collection {
  std::vector<named_layer<T, B, U>> layers_;
  std::deque<G> gradients_;

 public:
  explicit gradient_collection(torch::nn::Module& model, gradient_options options = {}, double weight = 1)
      : layers_(adapted_layers<T, B, U>(model)) {
    char const* const where = "gradient_collection";
    if (layers_.empty()) raise<state_error>(where, "model", "without an adapter of these types", "one with adapters");
    for (auto const& l : layers_)
      if (l.module->collecting())
        raise<state_error>(where, "'" + l.name + "'", "collecting already", "in one collection at a time");
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
  /// The accumulator of layer i.
  G& operator[](std::size_t i) { return gradients_[i]; }
  G const& operator[](std::size_t i) const { return gradients_[i]; }
};

namespace detail {

/// The library's initialise over layers that share a runtime. Autograd and torch's files learn of what was written,
/// also where some of the layers failed.
template <class S, Element T, class B, Element U, class F, class I, class... X>
void start_all(std::vector<named_layer<T, B, U>> const& all, F const& source_of, I const& init, X const&... more) {
  using A = typename adapter_module<T, B, U>::adapter_type;
  using W = matrix_view<U, typename B::space>;
  char const* const where = "libtorch::initialise";
  if (all.empty()) raise<state_error>(where, "model", "without an adapter of these types", "one with adapters");
  constexpr bool changes = (false || ... || [] {
    if constexpr (Anchor<X>) return X::changes_weight;
    else return false;
  }());
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
/// errors  as loraga::initialise; state_error for a model without adapters, or with several runtimes
template <Element T = float, class B = cpu, Element U = T, Initialiser I, class... X>
void initialise(torch::nn::Module& model, I const& init, X const&... more) {
  detail::start_all<no_source, T, B, U>(
      adapted_layers<T, B, U>(model), [](std::size_t) { return nullptr; }, init, more...);
}
/// The same from the gradients that were collected: lora_ga_init{}, ... Collecting ends.
template <class G, Element T, class B, Element U, Initialiser I, class... X>
void initialise(gradient_collection<G, T, B, U>& estimate, I const& init, X const&... more) {
  estimate.stop();
  detail::start_all<G, T, B, U>(
      estimate.layers(), [&](std::size_t i) { return &std::as_const(estimate)[i]; }, init, more...);
}

}  // namespace loraga::libtorch
