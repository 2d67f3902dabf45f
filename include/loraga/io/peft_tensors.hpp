#pragma once
#include <loraga/io/peft_names.hpp>
#include <loraga/io/record_info.hpp>

// How PEFT's files call and shape the matrices of a record.

namespace loraga::format {

enum class record_part { a, b, e, magnitude };

/// The matrix of a record.
template <class R>
auto& part_of(R& r, record_part part) {
  switch (part) {
    case record_part::a:
      return r.a;
    case record_part::b:
      return r.b;
    case record_part::e:
      return r.e;
    default:
      return r.magnitude;
  }
}

/// One tensor of a record: what follows the module's name, shape, type.
struct peft_tensor {
  record_part part;
  std::string_view suffix;
  std::vector<index_t> shape;
  dtype type;
};

/// The tensors of a record, which has no start. A magnitude is float in any case: rounded to 16 bit, it would change
/// whole rows of W.
/// source  github.com/huggingface/peft 0.21
inline std::vector<peft_tensor> peft_tensors(record_info const& r) {
  using part = record_part;
  auto const& [form, height, width] = r.layer;
  if (r.e)
    return {{part::a, ".lora_A", {r.rank, r.in}, r.type},
            {part::b, ".lora_B", {r.out, r.rank}, r.type},
            {part::e, ".lora_E", {r.rank, 1}, r.type}};
  bool const convolution = form == layer_form::convolution, embedding = form == layer_form::embedding;
  std::vector<index_t> a{r.rank, r.in}, b{r.out, r.rank}, g{r.out};
  if (convolution) {
    a = {r.rank, r.in / (height * width), height, width};
    b = {r.out, r.rank, 1, 1};
    g = {1, r.out, 1, 1};
  }
  std::vector<peft_tensor> list{{part::a, embedding ? ".lora_embedding_A" : ".lora_A.weight", a, r.type},
                                {part::b, embedding ? ".lora_embedding_B" : ".lora_B.weight", b, r.type}};
  if (r.magnitude) list.push_back({part::magnitude, ".lora_magnitude_vector", g, dtype::F32});
  return list;
}

/// The tensors of one module as a file has them, by their suffix.
using peft_module = std::map<std::string, stored_tensor, std::less<>>;

/// What an adapter file holds.
struct peft_contents {
  std::map<std::string, peft_module> modules;
  std::vector<whole_parameter> whole;  // sorted by name
};

/// The one adapter's name in the keys of a file, if they bear one.  errors  format_error for several adapters
inline std::string adapter_name(safetensors_file const& file) {
  std::string name, key;
  for (auto const& t : file.tensors()) {
    auto const at = t.name.rfind(".lora_");
    if (at == t.name.npos) continue;
    auto const found = parse_peft_key(t.name, file.path().string()).adapter;
    if (found.empty()) continue;
    if (!name.empty() && found != name)
      raise<format_error>(file.path().string(), "adapter", "several: '" + name + "' and '" + found + "'",
                          "one (PEFT saves one with selected_adapters=[name])");
    name = found;
  }
  return name;
}

/// Sorts a file's tensors by module.
/// errors  format_error for names that are not PEFT's for a LoRA, two that mean the same, and tensors left empty
inline peft_contents sort_peft_tensors(safetensors_file const& file) {
  peft_contents found;
  std::map<std::string, whole_parameter> whole;
  auto const where = file.path().string();
  auto const name = adapter_name(file);
  for (auto const& t : file.tensors()) {
    auto const key = parse_peft_key(t.name, where, name);
    if (t.shape == std::vector<index_t>{0} && key.part != peft_part::buffer)
      raise<format_error>(
          where, "'" + t.name + "'", "empty",
          "numbers (saved from DeepSpeed ZeRO-3 or FSDP without gathering the shards? save again within "
          "deepspeed.zero.GatheredParameters, or make the weights with zero_to_fp32.py)");
    bool fresh = true;
    if (key.part == peft_part::factor) {
      fresh = found.modules[key.module].emplace(key.suffix, file[t.name]).second;
    } else if (key.part != peft_part::buffer) {
      whole_parameter const saved{key.name, file[t.name], key.part == peft_part::base_copy};
      auto const [p, first] = whole.emplace(key.name, saved);
      fresh = first || same_tensor(p->second.tensor, saved.tensor);  // PEFT itself saves some in two spellings
    }
    if (!fresh) raise<format_error>(where, "'" + t.name + "'", "there in another spelling too", "each tensor once");
  }
  for (auto& [parameter, tensor] : whole) found.whole.push_back(std::move(tensor));
  return found;
}

/// A module's record but for its scale, with E or a magnitude as told.
/// errors  format_error for shapes that do not fit together, tensors that are missing, or that do not belong there
inline adapter_record read_peft_module(std::string const& module, peft_module const& tensors, bool magnitude, bool e,
                                       std::string const& where) {
  adapter_record r;
  r.module = module;
  record_info info{module};
  info.magnitude = magnitude;
  info.e = e;
  auto const find = [&](std::string_view suffix) {
    auto const p = tensors.find(suffix);
    return p == tensors.end() ? nullptr : &p->second;
  };
  if (find(".lora_embedding_A") || find(".lora_embedding_B")) info.layer = {layer_form::embedding};
  auto const names = peft_tensors(info);
  auto const *const a = find(names[0].suffix), *const b = find(names[1].suffix);
  if (a) {
    auto const sizes = a->shape.size();
    if (sizes == 4 && !e && info.layer.form == layer_form::linear)
      info.layer = {layer_form::convolution, a->shape[2], a->shape[3]};
    else if (sizes != 2)
      raise<format_error>(a->label, "shape", shape_text(a->shape),
                          "two sizes, or a 2-D convolution's four (Conv1d and Conv3d are not supported)");
    if (sizes == 4 && element_count(a->shape, a->label) == 0)  // other products of sizes may then be anything
      raise<format_error>(a->label, "shape", shape_text(a->shape), "sizes of at least 1");
    info.rank = a->rows();
    info.in = a->cols();
  }
  if (b) info.out = b->rows();
  for (auto const& t : peft_tensors(info)) {
    auto const* const tensor = find(t.suffix);
    if (!tensor)
      raise<format_error>(where, "'" + module + "'", "without " + std::string(t.suffix),
                          "what adapter_config.json speaks of");
    if (tensor->shape != t.shape)
      raise<format_error>(tensor->label, "shape", shape_text(tensor->shape), shape_text(t.shape));
    auto& to = part_of(r, t.part);
    index_t const rows = t.part == record_part::magnitude ? info.out : tensor->rows();
    to = record_matrix(rows, rows == 0 ? 0 : element_count(tensor->shape, tensor->label) / rows);
    auto flat = *tensor;  // a convolution's magnitude is 1 x out x 1 x 1
    flat.shape = {to.rows, to.cols};
    if (!to.empty()) read_matrix(flat, to.view());
    auto const type = tensor->type == dtype::F64 ? dtype::F32 : tensor->type;
    if (t.part == record_part::a) r.type = type;
    else if (t.part != record_part::magnitude && r.type != type) r.type = dtype::F32;
  }
  for (auto const& [suffix, tensor] : tensors)
    if (std::none_of(names.begin(), names.end(), [&, &s = suffix](auto const& t) { return t.suffix == s; }))
      raise<format_error>(tensor.label, "tensor", "not what adapter_config.json speaks of",
                          "none, or use_dora or peft_type ADALORA");
  r.layer = info.layer;
  return r;
}

}  // namespace loraga::format
