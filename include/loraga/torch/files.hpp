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
  if (all.empty())
    raise<state_error>("libtorch::take_records", "model", "without an adapter of these types", "one with adapters");
  std::vector<adapter_record> records;
  for (auto const& l : all)
    l.module->with_adapter([&](B& be, auto const& ad) {
      records.push_back(take_record(be, ad, l.name));
      records.back().layer = l.module->kind();
    });
  return records;
}

/// Writes a model's adapters as PEFT does. Names are the model's own. Where Python's model has others, change `module`
/// of take_records' records, and give those to loraga::save_peft.
/// errors  as loraga::save_peft and take_records
template <Element T = float, class B = cpu, Element U = T, class Base = unchecked_names>
void save_peft(std::filesystem::path const& folder, torch::nn::Module& model, peft_options const& options = {},
               Base const& base = {}) {
  loraga::save_peft(folder, take_records<T, B, U>(model), options, base);
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

/// Writes all tensors of a model but the adapters' own, under the names they had before layers were wrapped:
/// "fc1.weight" for "fc1.base.weight". Where adapters are merged, it is the whole fine-tuned model; where they are
/// anchored in place, it is the base that peft_base::anchored means.
/// errors  value_error for a tensor of a type safetensors files do not have here; file_error
template <Element T = float, class B = cpu, Element U = T>
void save_base(std::filesystem::path const& path, torch::nn::Module& model, overwrite may_replace = overwrite::no) {
  auto const all = adapted_layers<T, B, U>(model);
  auto const name_of = [&](std::string const& name) -> std::optional<std::string> {
    for (auto const& l : all) {
      auto const own = l.name.empty() ? l.name : l.name + ".";
      if (!name.starts_with(own)) continue;
      auto const rest = name.substr(own.size());
      if (!rest.starts_with("base.")) return {};  // A, B and their start
      return own + rest.substr(5);
    }
    return name;
  };
  std::map<std::string, at::Tensor> tensors;
  auto const take = [&](auto const& dictionary) {
    for (auto const& t : dictionary)
      if (auto const name = name_of(t.key()); name && t.value().defined())
        tensors[*name] = t.value().detach().cpu().contiguous();
  };
  take(model.named_parameters());
  take(model.named_buffers());
  auto const type_of = [](at::Tensor const& t, std::string const& name) {
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
        return with_element(t, "libtorch::save_base", name, []<class E>(E) { return dtype_of<E>; });
    }
  };
  std::vector<tensor_spec> specs;
  for (auto const& [name, t] : tensors) specs.push_back({name, type_of(t, name), {t.sizes().begin(), t.sizes().end()}});
  safetensors_writer writer(path, specs, {{"format", "pt"}}, may_replace);
  for (auto const& [name, t] : tensors)
    writer.write(name, {static_cast<std::byte const*>(t.data_ptr()), static_cast<std::size_t>(t.nbytes())});
  writer.commit();
}

}  // namespace loraga::libtorch
