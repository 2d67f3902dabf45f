#pragma once
#include <algorithm>
#include <iterator>
#include <loraga/core/error.hpp>
#include <loraga/core/view.hpp>
#include <span>
#include <string>
#include <string_view>

// How GGUF calls the modules of Hugging Face models, and orders the rows of some.

namespace loraga {

namespace format {
/// How a module of a Hugging Face model is called in GGUF, without ".weight"; '#' is the layer's number.
struct gguf_rule {
  std::string_view module, tensor;
  bool adapted = true;  ///< llama.cpp applies adapters to it
};
// llama.cpp loads adapters for other tensors than those it applies them to, and then ignores them.
inline constexpr gguf_rule gguf_decoder[] = {{"layers.#.self_attn.q_proj", "blk.#.attn_q"},
                                             {"layers.#.self_attn.k_proj", "blk.#.attn_k"},
                                             {"layers.#.self_attn.v_proj", "blk.#.attn_v"},
                                             {"layers.#.self_attn.o_proj", "blk.#.attn_output"},
                                             {"layers.#.mlp.gate_proj", "blk.#.ffn_gate"},
                                             {"layers.#.mlp.up_proj", "blk.#.ffn_up"},
                                             {"layers.#.mlp.down_proj", "blk.#.ffn_down"},
                                             {"lm_head", "output"},
                                             {"embed_tokens", "token_embd", false},
                                             {"norm", "output_norm", false},
                                             {"layers.#.input_layernorm", "blk.#.attn_norm", false},
                                             {"layers.#.post_attention_layernorm", "blk.#.ffn_norm", false},
                                             {"layers.#.self_attn.q_norm", "blk.#.attn_q_norm", false},
                                             {"layers.#.self_attn.k_norm", "blk.#.attn_k_norm", false}};
inline constexpr gguf_rule gguf_gpt2[] = {{"h.#.attn.c_attn", "blk.#.attn_qkv"},
                                          {"h.#.attn.c_proj", "blk.#.attn_output"},
                                          {"h.#.mlp.c_fc", "blk.#.ffn_up"},
                                          {"h.#.mlp.c_proj", "blk.#.ffn_down"},
                                          {"lm_head", "output"}};
inline constexpr gguf_rule gguf_bert[] = {{"encoder.layer.#.attention.self.query", "blk.#.attn_q"},
                                          {"encoder.layer.#.attention.self.key", "blk.#.attn_k"},
                                          {"encoder.layer.#.attention.self.value", "blk.#.attn_v"},
                                          {"encoder.layer.#.attention.output.dense", "blk.#.attn_output"},
                                          {"encoder.layer.#.intermediate.dense", "blk.#.ffn_up"},
                                          {"encoder.layer.#.output.dense", "blk.#.ffn_down"}};
inline constexpr gguf_rule gguf_t5[] = {{"encoder.block.#.layer.0.SelfAttention.q", "enc.blk.#.attn_q"},
                                        {"encoder.block.#.layer.0.SelfAttention.k", "enc.blk.#.attn_k"},
                                        {"encoder.block.#.layer.0.SelfAttention.v", "enc.blk.#.attn_v"},
                                        {"encoder.block.#.layer.0.SelfAttention.o", "enc.blk.#.attn_o"},
                                        {"encoder.block.#.layer.1.DenseReluDense.wi", "enc.blk.#.ffn_up"},
                                        {"encoder.block.#.layer.1.DenseReluDense.wi_0", "enc.blk.#.ffn_gate"},
                                        {"encoder.block.#.layer.1.DenseReluDense.wi_1", "enc.blk.#.ffn_up"},
                                        {"encoder.block.#.layer.1.DenseReluDense.wo", "enc.blk.#.ffn_down"},
                                        {"decoder.block.#.layer.0.SelfAttention.q", "dec.blk.#.attn_q"},
                                        {"decoder.block.#.layer.0.SelfAttention.k", "dec.blk.#.attn_k"},
                                        {"decoder.block.#.layer.0.SelfAttention.v", "dec.blk.#.attn_v"},
                                        {"decoder.block.#.layer.0.SelfAttention.o", "dec.blk.#.attn_o"},
                                        {"decoder.block.#.layer.1.EncDecAttention.q", "dec.blk.#.cross_attn_q"},
                                        {"decoder.block.#.layer.1.EncDecAttention.k", "dec.blk.#.cross_attn_k"},
                                        {"decoder.block.#.layer.1.EncDecAttention.v", "dec.blk.#.cross_attn_v"},
                                        {"decoder.block.#.layer.1.EncDecAttention.o", "dec.blk.#.cross_attn_o"},
                                        {"decoder.block.#.layer.2.DenseReluDense.wi", "dec.blk.#.ffn_up"},
                                        {"decoder.block.#.layer.2.DenseReluDense.wi_0", "dec.blk.#.ffn_gate"},
                                        {"decoder.block.#.layer.2.DenseReluDense.wi_1", "dec.blk.#.ffn_up"},
                                        {"decoder.block.#.layer.2.DenseReluDense.wo", "dec.blk.#.ffn_down"},
                                        {"lm_head", "output"}};

struct gguf_family {
  std::string_view architecture, prefix;  ///< the prefix is optional: a model without a head has none
  std::span<gguf_rule const> rules;
};
inline constexpr gguf_family gguf_families[] = {{"llama", "model.", gguf_decoder}, {"qwen2", "model.", gguf_decoder},
                                                {"qwen3", "model.", gguf_decoder}, {"gpt2", "transformer.", gguf_gpt2},
                                                {"bert", "bert.", gguf_bert},      {"t5", "", gguf_t5}};

/// `name` written as `to`, if it is of the form `from`, '#' being a number; else nothing.
inline std::string gguf_match(std::string_view from, std::string_view to, std::string_view name) {
  std::string result(to);
  auto const hole = from.find('#');
  if (hole == std::string_view::npos) return name == from ? result : std::string();
  auto const tail = from.substr(hole + 1);
  if (name.size() < from.size() || name.substr(0, hole) != from.substr(0, hole)) return {};
  if (name.substr(name.size() - tail.size()) != tail) return {};
  auto const number = name.substr(hole, name.size() - tail.size() - hole);
  if (number.find_first_not_of("0123456789") != std::string_view::npos) return {};
  return result.replace(result.find('#'), 1, number);
}

/// errors  value_error naming `where` for an architecture that is not listed
inline gguf_family const& find_gguf_family(std::string_view architecture, std::string_view where) {
  for (auto const& family : gguf_families)
    if (family.architecture == architecture) return family;
  raise<value_error>(where, "architecture", "'" + std::string(architecture) + "'",
                     "llama, qwen2, qwen3, gpt2, bert or t5");
}

/// Where a llama's row of q or k goes in GGUF, which pairs neighbours where Hugging Face pairs halves of a head.
/// math    row h*d + j*d/2 + i becomes row h*d + 2*i + j, for d rows per head, i < d/2, j < 2
LORAGA_HD inline index_t gguf_rotary_row(index_t row, index_t head_size) {
  index_t const within = row % head_size, half = head_size / 2;
  return row - within + within % half * 2 + within / half;
}
}  // namespace format

/// What llama.cpp calls the weight of a module: "blk.0.attn_q.weight" for "model.layers.0.self_attn.q_proj".
/// errors  value_error for an architecture not listed at gguf_options, or a module that is not adapted
inline std::string gguf_tensor_name(std::string_view architecture, std::string_view module) {
  auto const& family = format::find_gguf_family(architecture, "gguf_tensor_name");
  auto rest = module;
  if (rest.substr(0, family.prefix.size()) == family.prefix) rest.remove_prefix(family.prefix.size());
  for (auto const& rule : family.rules)
    if (auto tensor = format::gguf_match(rule.module, rule.tensor, rest); rule.adapted && !tensor.empty())
      return tensor + ".weight";
  raise<value_error>("gguf_tensor_name(" + std::string(architecture) + ")", "module", "'" + std::string(module) + "'",
                     "a linear layer that llama.cpp applies adapters to");
}

/// The other way, for decoders: "model.layers.0.self_attn.q_proj.weight" for "blk.0.attn_q.weight". Empty for a tensor
/// that no module of theirs is called for.
/// errors  value_error for another architecture than llama, qwen2 and qwen3
inline std::string gguf_parameter_name(std::string_view architecture, std::string_view tensor) {
  auto const& family = format::find_gguf_family(architecture, "gguf_parameter_name");
  if (family.rules.data() != format::gguf_decoder)
    raise<value_error>("gguf_parameter_name", "architecture", "'" + std::string(architecture) + "'",
                       "llama, qwen2 or qwen3; take the model in safetensors");
  auto const dot = tensor.rfind('.');
  if (dot == std::string_view::npos) return {};
  for (auto const& rule : family.rules)
    if (auto const module = format::gguf_match(rule.tensor, rule.module, tensor.substr(0, dot)); !module.empty())
      return (rule.module == "lm_head" ? "" : std::string(family.prefix)) + module + std::string(tensor.substr(dot));
  return {};
}

}  // namespace loraga
