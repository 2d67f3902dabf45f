#pragma once
#include <loraga/io/peft.hpp>
#include <loraga/torch/initialise.hpp>
#include <map>

// A model's adapters as PEFT's folder, and its other tensors as a safetensors file. (torch::save and torch::load take
// the modules as they are.)

namespace loraga::libtorch {

/// What adapter files hold of every adapted layer, under the layer's name in the model.
/// errors  state_error as take_record, and for a model without adapters
template <Element T = float, class B = cpu, Element U = T>
std::vector<adapter_record> take_records(torch::nn::Module& model) {
  auto const all = adapted_layers<T, B, U>(model);
  detail::require_layers(all, model, "libtorch::take_records");
  std::vector<adapter_record> records;
  for (auto const& l : all)
    l.module->with_adapter([&](B& be, auto const& ad) {
      records.push_back(take_record(be, ad, l.name));
      records.back().layer = l.module->kind();
    });
  return records;
}

/// What save_peft makes of parameters outside of its layers' A and B that train: a new head, a LayerNorm.
enum class other_trained {
  refuse,    ///< an error that names them: whoever reads the folder would lose them
  leave_out  ///< the caller saves them elsewhere
};

namespace detail {

/// What safetensors files call a tensor's type.
inline dtype stored_type(at::Tensor const& t, std::string const& name, char const* where) {
  switch (t.scalar_type()) {
    case at::kLong:
      return dtype::I64;
    case at::kInt:
      return dtype::I32;
    case at::kByte:
      return dtype::U8;
    case at::kBool:
      return dtype::BOOL;
    default:
      return with_element(t, where, name, []<class E>(E) { return dtype_of<E>; });
  }
}

/// Throws where a parameter trains that is neither A nor B of a layer of these types nor saved whole.
template <Element T, class B, Element U>
void require_nothing_else_trains(torch::nn::Module& model, std::vector<whole_parameter> const& whole) {
  std::string names;
  auto const add = [&](std::string const& name) { names += (names.empty() ? "'" : ", '") + name + "'"; };
  for (auto const& t : base_tensors(model)) {
    bool const saved = std::any_of(whole.begin(), whole.end(), [&](auto const& w) { return w.name == t.name; });
    if (t.tensor.requires_grad() && !saved) add(t.name);
  }
  for_each_adapter(model, [&](std::string const& name, any_adapter_module const& layer) {
    bool const ours = dynamic_cast<adapter_module<T, B, U> const*>(&layer) != nullptr;
    for (auto const& p : layer.named_parameters(false))
      if (!ours && p.value().requires_grad()) add(joined_name(name, p.key()) + " " + layer.types());
  });
  if (!names.empty())
    raise<state_error>(
        "libtorch::save_peft", "model", "one that trains " + names + " as well",
        "one that trains adapters of " + types_text<T, B, U>() +
            " alone, as the folder holds those: freeze the others (set_requires_grad(false)), give them to "
            "peft_options::whole (libtorch::whole), or say other_trained::leave_out and save them elsewhere");
}

}  // namespace detail

/// A parameter for peft_options::whole, under its name in the model. It shows the tensor's memory.
/// errors  value_error for a tensor that is not contiguous on the CPU, or of a type safetensors files do not have here
inline whole_parameter whole(std::string const& name, at::Tensor const& t) {
  char const* const where = "libtorch::whole";
  if (!t.device().is_cpu() || !t.is_contiguous())
    raise<value_error>(where, "'" + name + "'", "on " + t.device().str() + ", " + tensor_text(t),
                       "contiguous on the CPU, and alive until it is saved");
  return {name,
          {name,
           detail::stored_type(t, name, where),
           {t.sizes().begin(), t.sizes().end()},
           {static_cast<std::byte const*>(t.data_ptr()), static_cast<std::size_t>(t.nbytes())}}};
}

/// Writes a model's adapters as PEFT does. Names are the model's own. Where Python's model has others, change `module`
/// of take_records' records, and give those to loraga::save_peft.
/// errors  as loraga::save_peft and take_records; state_error where other parameters train, see other_trained
template <Element T = float, class B = cpu, Element U = T, class Base = unchecked_names>
void save_peft(std::filesystem::path const& folder, torch::nn::Module& model, peft_options const& options = {},
               Base const& base = {}, other_trained others = other_trained::refuse) {
  auto const records = take_records<T, B, U>(model);
  if (others == other_trained::refuse) detail::require_nothing_else_trains<T, B, U>(model, options.whole);
  loraga::save_peft(folder, records, options, base);
}

/// Gives every adapted layer the record of its name.
/// errors  state_error for a record without a layer or a layer without a record, before any change; as put_record, which
///         may leave the layers before the one it names changed
template <Element T = float, class B = cpu, Element U = T>
void put_records(std::vector<adapter_record> const& records, torch::nn::Module& model) {
  char const* const where = "libtorch::put_records";
  auto const all = adapted_layers<T, B, U>(model);
  std::map<std::string, adapter_record const*> by_name;
  for (auto const& r : records) by_name[r.module] = &r;
  for (auto const& l : all) {
    auto const found = by_name.find(l.name);
    if (found == by_name.end())
      raise<state_error>(where, "layer '" + l.name + "'", "without a record", "in the file like the others");
    if (found->second->layer != l.module->kind())
      raise<state_error>(where, "record '" + l.name + "'", "of " + layer_text(found->second->layer),
                         layer_text(l.module->kind()));
    by_name.erase(found);
  }
  if (!by_name.empty())
    raise<state_error>(where, "record '" + by_name.begin()->first + "'", "of a layer this model does not have",
                       "one of an adapted layer");
  for (auto const& l : all)
    for (auto const& r : records)
      if (r.module == l.name) {
        l.module->with_adapter([&](B& be, auto& ad) { put_record(be, r, ad); });
        l.module->written();
      }
}

/// Reads an adapter that PEFT or save_peft wrote into a model with modules of the same names, ranks and scales.
/// errors  as loraga::load_peft and put_records
template <Element T = float, class B = cpu, Element U = T>
void load_peft(std::filesystem::path const& folder, torch::nn::Module& model, std::optional<peft_base> base = {}) {
  put_records<T, B, U>(loraga::load_peft(folder, base).records, model);
}

namespace detail {

/// Throws where the weights of a model are not the ones that `base` names, or are of several kinds.
inline void require_one_base(torch::nn::Module& model, std::vector<base_tensor> const& tensors,
                             std::optional<peft_base> base) {
  char const* const where = "libtorch::save_base";
  std::string merged, anchored, apart;
  for_each_adapter(model, [&](std::string const& name, any_adapter_module& layer) {
    if (layer.merged() || layer.anchored_in_place()) {
      layer.check_base();
      require_own_weight(name, layer, tensors, where);
    }
    auto const named = "W of '" + name + "'";
    if (layer.merged()) merged = named;
    else if (layer.anchored_in_place()) anchored = named;
    if (!layer.merged() && layer.started()) apart = named;
  });
  if (!merged.empty() && !apart.empty())
    raise<state_error>(where, apart, "without its adapter, and " + merged + " merged",
                       "all merged (libtorch::merge(model)), or none");
  if (!anchored.empty() && base != peft_base::anchored)
    raise<state_error>(where, anchored, "changed by its start (in_place_anchor)",
                       "merged; or say peft_base::anchored for the base that an adapter of peft_base::anchored needs");
  if (!merged.empty() && base)
    raise<state_error>(where, merged, "merged", "not merged, where a base is named: unmerge first");
}

}  // namespace detail

/// Writes all tensors of a model but the adapters' own, under the names they had before layers were wrapped:
/// "fc1.weight" for "fc1.base.weight". Where adapters are merged, it is the whole fine-tuned model; where they are
/// anchored in place, the base that peft_base::anchored means, which the caller has to name.
/// errors  state_error where one is anchored in place and neither merged nor named, where some are merged and some not,
///         or where a W that holds an adapter is another module's as well (tied weights) or was written since;
///         value_error for a tensor of a type safetensors files do not have here; file_error
inline void save_base(std::filesystem::path const& path, torch::nn::Module& model,
                      overwrite may_replace = overwrite::no, std::optional<peft_base> base = {}) {
  auto const all = detail::base_tensors(model);
  detail::require_one_base(model, all, base);
  std::map<std::string, at::Tensor> tensors;
  for (auto const& t : all) tensors[t.name] = t.tensor.detach().cpu().contiguous();
  std::vector<tensor_spec> specs;
  for (auto const& [name, t] : tensors)
    specs.push_back({name, detail::stored_type(t, name, "libtorch::save_base"), {t.sizes().begin(), t.sizes().end()}});
  safetensors_writer writer(path, specs, {{"format", "pt"}}, may_replace);
  for (auto const& [name, t] : tensors)
    writer.write(name, {static_cast<std::byte const*>(t.data_ptr()), static_cast<std::size_t>(t.nbytes())});
  writer.commit();
}

}  // namespace loraga::libtorch
