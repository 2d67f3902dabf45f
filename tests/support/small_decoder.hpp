#pragma once
#include <loraga/io/safetensors_writer.hpp>

#include "../../examples/model/language_model.hpp"
#include "../io/gguf_bytes.hpp"
#include "backend.hpp"
#include "folder.hpp"

// A small random llama on disk, in both forms: what tests of the language example train.

namespace test {

/// Writes one model as OUT/llama (safetensors and config.json) and as OUT/llama.gguf, all numbers in float.
class small_decoder {
  using index_t = loraga::index_t;
  struct tensor {
    std::string name, in_gguf;
    std::vector<index_t> shape;
    index_t rotary_heads = 0;
    std::vector<float> values = {};
  };
  std::vector<tensor> tensors_;

  void add(std::string const& name, std::string const& in_gguf, std::vector<index_t> shape, double size,
           double around = 0, index_t rotary_heads = 0) {
    tensor t{name + ".weight", in_gguf + ".weight", std::move(shape), rotary_heads};
    index_t const n = loraga::element_count(t.shape, "small_decoder");
    loraga::random_stream const stream{11, tensors_.size()};
    for (index_t i = 0; i < n; ++i)
      t.values.push_back(
          static_cast<float>(around + size * loraga::random_normal(stream, static_cast<std::uint64_t>(i))));
    tensors_.push_back(std::move(t));
  }

 public:
  model::decoder_shape const shape{.vocabulary = 40,
                                   .width = 32,
                                   .layers = 2,
                                   .heads = 4,
                                   .kv_heads = 2,
                                   .head_size = 8,
                                   .hidden = 48,
                                   .epsilon = 1e-5f,
                                   .rope_base = 1000,
                                   .tied = true};
  test::folder folder;

  small_decoder() {
    auto const& s = shape;
    add("model.embed_tokens", "token_embd", {s.vocabulary, s.width}, 0.5);
    add("model.norm", "output_norm", {s.width}, 0.1, 1);
    for (index_t l = 0; l < s.layers; ++l) {
      auto const name = "model.layers." + std::to_string(l) + ".", gguf = "blk." + std::to_string(l) + ".";
      index_t const all = s.heads * s.head_size, kv = s.kv_heads * s.head_size;
      add(name + "input_layernorm", gguf + "attn_norm", {s.width}, 0.1, 1);
      add(name + "post_attention_layernorm", gguf + "ffn_norm", {s.width}, 0.1, 1);
      add(name + "self_attn.q_proj", gguf + "attn_q", {all, s.width}, 0.3, 0, s.heads);
      add(name + "self_attn.k_proj", gguf + "attn_k", {kv, s.width}, 0.3, 0, s.kv_heads);
      add(name + "self_attn.v_proj", gguf + "attn_v", {kv, s.width}, 0.3);
      add(name + "self_attn.o_proj", gguf + "attn_output", {s.width, all}, 0.3);
      add(name + "mlp.gate_proj", gguf + "ffn_gate", {s.hidden, s.width}, 0.3);
      add(name + "mlp.up_proj", gguf + "ffn_up", {s.hidden, s.width}, 0.3);
      add(name + "mlp.down_proj", gguf + "ffn_down", {s.width, s.hidden}, 0.3);
    }
    write_safetensors();
    write_gguf();
  }
  std::filesystem::path safetensors() const { return folder / "llama"; }
  std::filesystem::path gguf() const { return folder / "llama.gguf"; }

  static std::string config() {
    return R"({"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
      "num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 40, "rms_norm_eps": 1e-5, "rope_theta": 1000,
      "tie_word_embeddings": true, "hidden_act": "silu"})";
  }
  static gguf_builder metadata() {
    gguf_builder b;
    b.entry("general.architecture", "llama");
    auto const size = [&](char const* key, std::uint32_t n) { b.number("llama." + std::string(key), 4, n); };
    size("block_count", 2), size("embedding_length", 32), size("feed_forward_length", 48);
    size("attention.head_count", 4), size("attention.head_count_kv", 2);
    b.entry("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    b.entry("llama.rope.freq_base", 1000.f);
    return b;
  }

 private:
  void write_safetensors() const {
    std::filesystem::create_directories(safetensors());
    write_file(safetensors() / "config.json", config());
    std::vector<loraga::tensor_spec> specs;
    for (auto const& t : tensors_) specs.push_back({t.name, loraga::dtype::F32, t.shape});
    loraga::safetensors_writer writer(safetensors() / "model.safetensors", specs);
    for (auto const& t : tensors_) writer.write(t.name, std::as_bytes(std::span(t.values)));
    writer.commit();
  }
  void write_gguf() const {
    auto b = metadata();
    for (auto const& t : tensors_) {
      gguf_builder::tensor line{t.in_gguf, {t.shape.rbegin(), t.shape.rend()}, 0, b.data.size()};
      b.tensors.push_back(line);
      auto values = t.values;
      if (index_t const heads = t.rotary_heads; heads > 0)
        for (index_t row = 0; row < t.shape[0]; ++row)
          std::copy_n(t.values.begin() + row * t.shape[1], t.shape[1],
                      values.begin() + loraga::format::gguf_rotary_row(row, t.shape[0] / heads) * t.shape[1]);
      b.data.append(reinterpret_cast<char const*>(values.data()), 4 * values.size());
      b.data.append((32 - b.data.size() % 32) % 32, '\0');
    }
    write_file(gguf(), b.bytes());
  }
};

/// Sequences in which every answer repeats the prompt's last token, and then counts on.
inline data::token_set counting_items(std::uint64_t first, std::uint64_t count) {
  data::token_set set;
  for (std::uint64_t n = first; n < first + count; ++n) {
    data::token_item item;
    item.prompt = 2 + static_cast<loraga::index_t>(3 * loraga::random_uniform({5, n}, 0));
    for (loraga::index_t i = 0; i < item.prompt; ++i)
      item.tokens.push_back(
          static_cast<loraga::index_t>(30 * loraga::random_uniform({5, n}, static_cast<std::uint64_t>(i + 1))));
    for (loraga::index_t i = 0; i < 3; ++i)
      item.tokens.push_back(item.tokens[static_cast<std::size_t>(item.prompt) - 1] + i);
    set.add(std::move(item));
  }
  return set;
}

}  // namespace test
