#pragma once
#include <set>

#include "decoder.hpp"

// Sizes of a llama-type decoder, from a GGUF file's metadata or from config.json beside safetensors.

namespace model {

/// errors  format_error naming the key for another architecture, or a setting that this decoder does not have
inline decoder_shape read_gguf_shape(loraga::gguf_file const& file) {
  std::string const where = file.path().string();
  auto const refuse = [&](char const* key, std::string const& found, char const* expected) {
    loraga::raise<loraga::format_error>(where, key, found, expected);
  };
  if (auto const architecture = file.text("general.architecture"); architecture != "llama")
    refuse("general.architecture", "'" + architecture + "'", "llama: the example knows no other decoder");
  auto const size = [&](char const* key) {
    auto const n = file.number<index_t>(key);
    if (n < 1 || n > 10'000'000) refuse(key, std::to_string(n), "a size");
    return n;
  };
  decoder_shape s;
  s.width = size("llama.embedding_length");
  s.layers = size("llama.block_count");
  s.heads = size("llama.attention.head_count");
  s.kv_heads = file.has("llama.attention.head_count_kv") ? size("llama.attention.head_count_kv") : s.heads;
  s.hidden = size("llama.feed_forward_length");
  s.head_size = file.has("llama.attention.key_length") ? size("llama.attention.key_length") : s.width / s.heads;
  s.epsilon = file.number<float>("llama.attention.layer_norm_rms_epsilon");
  s.rope_base = file.number_or("llama.rope.freq_base", 10000.0);
  s.vocabulary = file["token_embd.weight"].rows();
  s.tied = !file.contains("output.weight");
  if (auto const turned = file.number_or("llama.rope.dimension_count", s.head_size); turned != s.head_size)
    refuse("llama.rope.dimension_count", std::to_string(turned), "all of a head's");
  if (file.contains("rope_freqs.weight")) refuse("rope_freqs.weight", "present", "plain rotation (a llama before 3.1)");
  for (auto const* key : {"llama.rope.scaling.type", "llama.rope.scale_linear"})
    if (file.has(key)) refuse(key, "present", "plain rotation");
  if (file.number_or<index_t>("llama.expert_count", 0) > 0) refuse("llama.expert_count", "given", "no experts");
  return s;
}

/// The same from config.json.
inline decoder_shape read_config_shape(loraga::safetensors_model const& files) {
  auto const path = files.folder() / "config.json";
  std::string const where = path.string();
  auto const json = loraga::parse_json(loraga::read_text(path), where, 8);
  if (!json.is_object()) loraga::raise<loraga::format_error>(where, "config", "no JSON object", "an object");
  auto const refuse = [&](char const* key, std::string const& found, char const* expected) {
    loraga::raise<loraga::format_error>(where, key, found, expected);
  };
  auto const size = [&](char const* key, index_t otherwise = 0) {
    auto const n = loraga::json_field<index_t>(json, key, otherwise, where);
    if (n < 1 || n > 10'000'000) refuse(key, n == 0 ? "missing" : std::to_string(n), "a size");
    return n;
  };
  if (auto const type = loraga::json_field<std::string>(json, "model_type", "", where); type != "llama")
    refuse("model_type", "'" + type + "'", "llama: the example knows no other decoder");
  for (auto const* key : {"attention_bias", "mlp_bias"})
    if (loraga::json_field(json, key, false, where)) refuse(key, "true", "false");
  if (auto const f = loraga::json_field<std::string>(json, "hidden_act", "silu", where); f != "silu")
    refuse("hidden_act", "'" + f + "'", "silu");
  decoder_shape s;
  s.width = size("hidden_size");
  s.layers = size("num_hidden_layers");
  s.heads = size("num_attention_heads");
  s.kv_heads = size("num_key_value_heads", s.heads);
  s.hidden = size("intermediate_size");
  s.head_size = size("head_dim", s.width / s.heads);
  s.vocabulary = size("vocab_size");
  s.epsilon = loraga::json_field(json, "rms_norm_eps", 1e-6f, where);
  s.tied = loraga::json_field(json, "tie_word_embeddings", false, where);
  s.rope_base = loraga::json_field(json, "rope_theta", 10000.0, where);
  for (auto const* key : {"rope_scaling", "rope_parameters"}) {  // the newer name holds the base as well
    auto const p = json.find(key);
    if (p == json.end() || p->is_null()) continue;
    if (!p->is_object()) refuse(key, p->dump().substr(0, 80), "an object");
    auto const old = loraga::json_field<std::string>(*p, "type", "default", where);  // the key's name before
    auto const type = loraga::json_field<std::string>(*p, "rope_type", old, where);
    if (type != "default") refuse(key, "'" + type + "'", "plain rotation");
    s.rope_base = loraga::json_field(*p, "rope_theta", s.rope_base, where);
  }
  return s;
}

/// A tensor that the decoder would leave out changes what the model computes: biases, norms of q and k, experts.
/// errors  format_error naming it
inline void require_known_tensors(loraga::base_model const& base, decoder_shape const& s) {
  std::set<std::string> known{"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"};
  for (index_t l = 0; l < s.layers; ++l)
    for (auto const* module : {"input_layernorm", "post_attention_layernorm", "self_attn.q_proj", "self_attn.k_proj",
                               "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      known.insert("model.layers." + std::to_string(l) + "." + module + ".weight");
  auto const require = [&](bool ok, std::string const& name) {
    if (!ok)
      loraga::raise<loraga::format_error>(base.path().string(), "'" + name + "'", "unknown",
                                          "a tensor of a llama of " + std::to_string(s.layers) + " layers");
  };
  for (auto const& name : base.names())
    require(known.contains(name) || name.ends_with(".rotary_emb.inv_freq"), name);  // a buffer of old checkpoints
  if (auto const* gguf = base.in_gguf())
    for (auto const& t : gguf->tensors())
      require(!loraga::gguf_parameter_name("llama", t.name).empty(), loraga::format::printable(t.name));
}

/// errors  as above; format_error for sizes that do not fit together
inline decoder_shape read_decoder_shape(loraga::base_model const& base) {
  auto const* gguf = base.in_gguf();
  auto const s = gguf ? read_gguf_shape(*gguf) : read_config_shape(*base.in_safetensors());
  if (s.heads % s.kv_heads != 0 || s.head_size % 2 != 0)
    loraga::raise<loraga::format_error>(base.path().string(), "heads",
                                        std::to_string(s.heads) + " of " + std::to_string(s.head_size) + " for " +
                                            std::to_string(s.kv_heads) + " key heads",
                                        "a multiple of the key heads, of an even size");
  require_known_tensors(base, s);
  return s;
}

}  // namespace model
