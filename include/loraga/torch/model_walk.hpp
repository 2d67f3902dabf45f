#pragma once
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <algorithm>
#include <loraga/torch/adapter_module.hpp>

// What a model holds: its modules with adapters, and the tensors that were there before.

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

namespace detail {

inline std::string joined_name(std::string const& path, std::string const& name) {
  return path.empty() ? name : path + "." + name;
}

/// f(name, layer) for each module with an adapter, of any types; once for each name.
template <class F>
void for_each_adapter(torch::nn::Module& model, F const& f, std::string const& path = "") {
  if (auto* const layer = dynamic_cast<any_adapter_module*>(&model)) return f(path, *layer);
  for (auto const& child : model.named_children()) for_each_adapter(*child.value(), f, joined_name(path, child.key()));
}

/// A tensor of a model that is no adapter's, under the name it had before layers were wrapped: "fc1.weight" for
/// "fc1.base.weight".
struct base_tensor {
  std::string name;
  at::Tensor tensor;
  any_adapter_module* layer;  ///< around the module that holds it, or null
};

/// The weight that a module computes with: whoever ties weights by `head->weight = words->weight` leaves another one
/// registered.
inline at::Tensor used_weight(torch::nn::Module const& module) {
  if (auto const* m = dynamic_cast<torch::nn::LinearImpl const*>(&module)) return m->weight;
  if (auto const* m = dynamic_cast<torch::nn::EmbeddingImpl const*>(&module)) return m->weight;
  if (auto const* m = dynamic_cast<torch::nn::Conv2dImpl const*>(&module)) return m->weight;
  return {};
}

inline void add_base_tensors(torch::nn::Module& module, std::string const& path, any_adapter_module* around,
                             std::vector<base_tensor>& all) {
  if (auto* const layer = dynamic_cast<any_adapter_module*>(&module))
    return add_base_tensors(*layer->named_children()["base"], path, layer, all);
  auto const weight = used_weight(module);
  auto const add = [&](auto const& dictionary) {
    for (auto const& t : dictionary) {
      auto const& used = t.key() == "weight" && weight.defined() ? weight : t.value();
      if (used.defined()) all.push_back({joined_name(path, t.key()), used, around});
    }
  };
  add(module.named_parameters(false));
  add(module.named_buffers(false));
  for (auto const& child : module.named_children())
    add_base_tensors(*child.value(), joined_name(path, child.key()), around, all);
}

/// All of them, parameters and buffers; what is registered under several names comes as often.
inline std::vector<base_tensor> base_tensors(torch::nn::Module& model) {
  std::vector<base_tensor> all;
  add_base_tensors(model, "", nullptr, all);
  return all;
}

/// Whether the memory of two tensors overlaps: from the first to the last of their numbers.
inline bool share_memory(at::Tensor const& a, at::Tensor const& b) {
  auto const plain = [](at::Tensor const& t) { return t.defined() && t.layout() == at::kStrided && t.numel() > 0; };
  if (!plain(a) || !plain(b) || a.device() != b.device()) return false;
  auto const range = [](at::Tensor const& t) {
    std::int64_t last = 0;
    for (std::int64_t i = 0; i < t.dim(); ++i) last += (t.size(i) - 1) * t.stride(i);
    auto const first = reinterpret_cast<std::uintptr_t>(t.data_ptr());
    return std::pair(first,
                     first + static_cast<std::uintptr_t>(last + 1) * static_cast<std::uintptr_t>(t.element_size()));
  };
  auto const [a_first, a_end] = range(a);
  auto const [b_first, b_end] = range(b);
  return a_first < b_end && b_first < a_end;
}

/// Throws where the W of a layer, which is to be written, is another module's as well (tied weights): the other one
/// would change with it.
/// errors  state_error naming both
inline void require_own_weight(std::string const& name, any_adapter_module const& layer,
                               std::vector<base_tensor> const& all, char const* where) {
  for (auto const& other : all)
    if (other.layer != &layer && share_memory(layer.weight(), other.tensor))
      raise<state_error>(where, "W of '" + name + "'", "the memory of '" + other.name + "' too (tied weights)",
                         "its own memory: take frozen_pair_anchor and do not merge, or give one of them a copy");
}

/// Throws for a model that has no adapter of these types, naming those it has.
template <Element T, class B, Element U>
void require_layers(std::vector<named_layer<T, B, U>> const& found, torch::nn::Module& model, char const* where) {
  if (!found.empty()) return;
  std::string others;
  for_each_adapter(model, [&](std::string const& name, any_adapter_module const& layer) {
    if (others.empty()) others = "but with one of " + layer.types() + " ('" + name + "')";
  });
  raise<state_error>(where, "model",
                     "without an adapter of " + types_text<T, B, U>() + ", " + (others.empty() ? "or any" : others),
                     "one with adapters of the types that are looked for: other types than these are template "
                     "arguments, initialise<float, cpu, bf16>(...)");
}

}  // namespace detail

/// Merges all adapters of these types: W += s*B*A, minus the frozen start where there is one.
/// errors  state_error before any change, where one is merged already or was never started, or where a W is another
///         module's as well (tied weights); shape_error for a W that is no matrix in memory
template <Element T = float, class B = cpu, Element U = T>
void merge(torch::nn::Module& model) {
  char const* const where = "libtorch::merge";
  auto const all = adapted_layers<T, B, U>(model);
  detail::require_layers(all, model, where);
  auto const tensors = detail::base_tensors(model);
  for (auto const& l : all) {
    detail::require_own_weight(l.name, *l.module, tensors, where);
    if (l.module->merged()) raise<state_error>(where, "'" + l.name + "'", "merged already", "not merged");
    if (!l.module->started()) raise<state_error>(where, "'" + l.name + "'", "without a start", "started");
    (void)l.module->weight_view();
  }
  for (auto const& l : all) l.module->merge();
}
/// Takes out of each W what merge put in.
/// errors  state_error before any change, where one is not merged
template <Element T = float, class B = cpu, Element U = T>
void unmerge(torch::nn::Module& model) {
  auto const all = adapted_layers<T, B, U>(model);
  detail::require_layers(all, model, "libtorch::unmerge");
  for (auto const& l : all)
    if (!l.module->merged()) raise<state_error>("libtorch::unmerge", "'" + l.name + "'", "not merged", "merged");
  for (auto const& l : all) l.module->unmerge();
}

}  // namespace loraga::libtorch
