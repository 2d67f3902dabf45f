#include <loraga/io/gguf_names.hpp>
#include <set>

#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;

TEST_CASE("GGUF's names and Hugging Face's stand for each other") {
  for (std::string const architecture : {"llama", "qwen2", "qwen3"})
    for (std::string const module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                     "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      auto const name = "model.layers.12." + module;
      CHECK(gguf_parameter_name(architecture, gguf_tensor_name(architecture, name)) == name + ".weight");
    }
  CHECK(gguf_parameter_name("llama", "token_embd.weight") == "model.embed_tokens.weight");
  CHECK(gguf_parameter_name("llama", "output.weight") == "lm_head.weight");
  CHECK(gguf_parameter_name("qwen2", "blk.3.attn_q.bias") == "model.layers.3.self_attn.q_proj.bias");
  CHECK(gguf_parameter_name("qwen3", "blk.3.attn_q_norm.weight") == "model.layers.3.self_attn.q_norm.weight");
  for (auto const* unknown : {"blk.x.attn_q.weight", "blk.0.ffn_gate_exps.weight", "rope_freqs.weight", "attn_q", ""})
    CHECK(gguf_parameter_name("llama", unknown).empty());
  CHECK(test::message_of([] { gguf_parameter_name("gpt2", "output.weight"); }).find("safetensors") !=
        std::string::npos);
  CHECK(test::message_of([] { gguf_parameter_name("mamba", "x.weight"); }).find("'mamba'") != std::string::npos);
  CHECK_THROWS_AS(gguf_tensor_name("llama", "model.embed_tokens"), value_error);  // there, but not adapted
}

TEST_CASE("a llama's rotary rows: halves of a head become neighbours, and no row is lost") {
  std::set<index_t> seen;
  for (index_t row = 0; row < 24; ++row) {
    index_t const to = format::gguf_rotary_row(row, 8);
    CHECK(to / 8 == row / 8);
    CHECK(to % 8 == (row % 8 < 4 ? 2 * (row % 8) : 2 * (row % 8 - 4) + 1));
    seen.insert(to);
  }
  CHECK(seen.size() == 24);
}
