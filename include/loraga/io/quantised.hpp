#pragma once
#include <array>
#include <loraga/io/model.hpp>

namespace loraga {

/// What messages advise where a base is quantised.
inline constexpr char const* full_precision_advice =
    "the same model in F32, F16 or BF16: merge into that one, and quantise it again if need be";

namespace format {
/// What stands beside, or instead of, a module's weight in files of quantised models, and whose it is.
inline constexpr std::array<std::pair<std::string_view, std::string_view>, 17> quantised_parts{
    {{".weight.absmax", "bitsandbytes, 4 bit"},
     {".weight.quant_map", "bitsandbytes, 4 bit"},
     {".SCB", "bitsandbytes, 8 bit"},
     {".weight_format", "bitsandbytes, 8 bit"},
     {".qweight", "GPTQ or AWQ"},
     {".weight_packed", "compressed-tensors"},
     {".weight_scale_inv", "FP8"},
     {".weight_scale", "FP8 or compressed-tensors"},
     {".weight_scales", "EETQ, 8 bit"},
     {".weight._data", "quanto"},
     {".codes", "AQLM"},
     {".W_q", "HQQ"},
     {".weight_q", "HQQ"},
     {"_blocks", "MXFP4"},
     {".Qidxs", "QuIP#"},
     {".q_weight", "ExLlamaV2"},
     {".trellis", "ExLlamaV3"}}};
}  // namespace format

/// In which form the weight of that name ("....weight") is quantised, in words; empty where it is not, or is not there.
inline std::string quantised_form(safetensors_model const& base, std::string_view weight) {
  std::string const module(weight.ends_with(".weight") ? weight.substr(0, weight.size() - 7) : weight);
  for (auto const& [part, form] : format::quantised_parts)
    if (base.contains(module + std::string(part))) return std::string(form);
  if (!base.contains(weight)) return {};
  auto const type = base[weight].type;
  bool const whole_numbers = type == dtype::I8 || type == dtype::U8;
  return whole_numbers || dtype_bits(type) < 16 ? std::string(dtype_name(type)) : std::string();
}
/// The same of a model's first weight that is quantised.
inline std::string quantised_form(safetensors_model const& base) {
  for (std::size_t i = 0; i < base.files().size(); ++i)
    for (auto const& name : base.names_in(i))
      for (auto const& [part, form] : format::quantised_parts)
        if (name.ends_with(part)) return std::string(form);
  return {};
}

}  // namespace loraga
