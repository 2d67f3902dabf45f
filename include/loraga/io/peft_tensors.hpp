#pragma once
#include <loraga/io/record_info.hpp>

// How PEFT's files call and shape the matrices of a record.

namespace loraga::format {

inline std::string const peft_prefix = "base_model.model.";

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
using peft_module = std::map<std::string_view, stored_tensor>;

/// Sorts a file's tensors by module.
/// errors  format_error for names that are not PEFT's for a LoRA
inline std::map<std::string, peft_module> peft_modules(safetensors_file const& file) {
  static constexpr std::string_view suffixes[] = {
      ".lora_A.weight",         ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B",
      ".lora_magnitude_vector", ".lora_A",        ".lora_B",           ".lora_E"};
  std::map<std::string, peft_module> modules;
  for (auto const& t : file.tensors()) {
    std::string_view name = t.name;
    auto const suffix =
        std::find_if(std::begin(suffixes), std::end(suffixes), [&](std::string_view s) { return name.ends_with(s); });
    bool const whole_layer = name.ends_with(".base_layer.weight");
    if (!name.starts_with(peft_prefix) || suffix == std::end(suffixes) ||
        name.size() < peft_prefix.size() + suffix->size())
      raise<format_error>(file.path().string(), "'" + t.name + "'",
                          whole_layer ? "a layer of the base, saved whole" : "unknown",
                          whole_layer ? "adapters alone: save_pretrained(..., save_embedding_layers=False)"
                                      : "base_model.model.<module>.lora_A.weight, .lora_B.weight or what DoRA, "
                                        "AdaLoRA and embeddings have");
    name.remove_prefix(peft_prefix.size());
    name.remove_suffix(suffix->size());
    modules[std::string(name)].emplace(*suffix, file[t.name]);
  }
  return modules;
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
