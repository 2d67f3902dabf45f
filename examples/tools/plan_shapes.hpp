#pragma once
#include <loraga/io/json.hpp>
#include <set>

#include "plan_settings.hpp"
#include "targets.hpp"

// Shapes of models: of a few well-known ones, as they are written on the command line, or from the headers of files.

namespace tools::plan {

/// A decoder's sizes under the names of its config.json.
/// source  huggingface.co: meta-llama/Llama-2-7b-hf and Llama-2-70b-hf (arXiv:2307.09288), meta-llama/Llama-3.1-405B
///         (arXiv:2407.21783, table 3), mistralai/Mixtral-8x7B-v0.1 (arXiv:2401.04088, table 1)
struct decoder_sizes {
  char const* name;
  index_t hidden_size, intermediate_size, num_attention_heads, num_key_value_heads, num_hidden_layers, vocab_size;
  index_t experts = 1, active_experts = 1;
};
inline constexpr decoder_sizes known_models[] = {{"llama-2-7b", 4096, 11008, 32, 32, 32, 32000},
                                                 {"llama-2-70b", 8192, 28672, 64, 8, 80, 32000},
                                                 {"llama-3.1-405b", 16384, 53248, 128, 8, 126, 128256},
                                                 {"mixtral-8x7b", 4096, 14336, 32, 8, 32, 32000, 8, 2}};

/// All linear layers of a decoder's blocks; head and embedding are not tied in any of these.
inline model_shapes shapes_of(decoder_sizes const& d) {
  model_shapes m;
  m.name = d.name;
  index_t const kv = d.hidden_size / d.num_attention_heads * d.num_key_value_heads, wide = d.intermediate_size;
  double const chosen = static_cast<double>(d.active_experts) / static_cast<double>(d.experts);
  for (index_t i = 0; i < d.num_hidden_layers; ++i) {
    auto const add = [&](std::string const& name, index_t out, index_t in, bool by_columns = false, double share = 1) {
      m.layers.push_back({"model.layers." + std::to_string(i) + "." + name, out, in, share, by_columns});
    };
    add("self_attn.q_proj", d.hidden_size, d.hidden_size);
    add("self_attn.k_proj", kv, d.hidden_size);
    add("self_attn.v_proj", kv, d.hidden_size);
    add("self_attn.o_proj", d.hidden_size, d.hidden_size, true);
    for (index_t e = 0; e < d.experts; ++e) {
      bool const one = d.experts == 1;
      auto const at = one ? std::string("mlp.") : "block_sparse_moe.experts." + std::to_string(e) + ".";
      add(at + (one ? "gate_proj" : "w1"), wide, d.hidden_size, false, chosen);
      add(at + (one ? "up_proj" : "w3"), wide, d.hidden_size, false, chosen);
      add(at + (one ? "down_proj" : "w2"), d.hidden_size, wide, true, chosen);
    }
    double const router = d.experts > 1 ? static_cast<double>(d.experts * d.hidden_size) : 0;
    m.parameters += router + 2 * static_cast<double>(d.hidden_size);  // and two norms
    m.active += router;
  }
  double const head = static_cast<double>(d.vocab_size) * static_cast<double>(d.hidden_size);
  m.parameters += 2 * head + static_cast<double>(d.hidden_size);
  m.active += head;
  for (auto const& l : m.layers) m.parameters += numbers_of(l), m.active += l.share * numbers_of(l);
  return m;
}

/// OUTxIN or OUTxIN*COUNT, with commas between several: a model of these layers alone. Nothing if it is not one.
inline std::optional<model_shapes> written_shapes(std::string const& text) {
  static std::regex const one(R"(([0-9]{1,9})x([0-9]{1,9})(?:\*([0-9]{1,6}))?)");
  model_shapes m;
  m.name = text;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::smatch found;
    if (!std::regex_match(part, found, one)) return {};
    index_t const out = std::stoll(found[1]), in = std::stoll(found[2]),
                  count = found[3].matched ? std::stoll(found[3]) : 1;
    if (out < 1 || in < 1 || count < 1)
      raise<value_error>("loraga_plan", "MODEL", "'" + part + "'", "sizes and a number of layers from 1 on");
    for (index_t i = 0; i < count; ++i) m.layers.push_back({"layer" + std::to_string(m.layers.size()), out, in});
  }
  for (auto const& l : m.layers) m.parameters += numbers_of(l);
  m.active = m.parameters;
  if (m.layers.empty()) return {};
  return m;
}

/// Whether tensor parallel ranks cut a layer's inputs, as Megatron does: those that end a block.
inline bool ends_a_block(std::string_view module) {
  auto const word = module.substr(module.rfind('.') + 1);
  for (auto const* known : {"o_proj", "down_proj", "out_proj", "c_proj", "w2", "wo", "fc2", "dense_4h_to_h"})
    if (word == known) return true;
  return module.ends_with("attention.dense") || module.ends_with("output.dense") ||
         module.ends_with("SelfAttention.o") || module.ends_with("EncDecAttention.o");
}
/// What comes before an expert's number in a module's name; empty if there is none.
inline std::string_view expert_list(std::string_view module) {
  auto const at = module.find(".experts.");
  if (at == module.npos) return {};
  auto const end = at + std::string_view(".experts.").size();
  return end < module.size() && module[end] >= '0' && module[end] <= '9' ? module.substr(0, end) : std::string_view();
}

/// How many experts work for a token, from config.json beside the files; 0 if it does not say.
inline index_t experts_per_token(base_model const& base) {
  auto const* files = base.in_safetensors();
  std::error_code unknown;
  if (!files || !std::filesystem::exists(files->folder() / "config.json", unknown)) return 0;
  auto const path = files->folder() / "config.json";
  auto const json = parse_json<nlohmann::ordered_json>(read_text(path), path.string(), 64);
  auto const from = [](auto const& j) -> index_t {
    auto const found = j.is_object() ? j.find("num_experts_per_tok") : j.end();
    return j.is_object() && found != j.end() && found->is_number_integer() ? found->template get<index_t>() : 0;
  };
  index_t const own = from(json);
  return own == 0 && json.contains("text_config") ? from(json["text_config"]) : own;
}

/// The base model's shapes: the selected layers get adapters. Only headers are read.
/// errors  find_targets'; value_error for experts of which it is not known how many work for a token
inline model_shapes file_shapes(base_model const& base, module_selection const& selection, bool of_family,
                                index_t active_experts) {
  model_shapes m;
  m.name = base.path().string();
  std::map<std::string, std::set<std::string>, std::less<>> experts;  // their numbers, by list
  auto const names = base.names();
  for (auto const& name : names)
    if (auto const list = expert_list(name); !list.empty())
      experts[std::string(list)].insert(name.substr(list.size(), name.find('.', list.size()) - list.size()));
  if (!experts.empty() && active_experts == 0) active_experts = experts_per_token(base);
  auto const share_of = [&](std::string_view module) {
    auto const list = expert_list(module);
    if (list.empty()) return 1.0;
    auto const all = static_cast<index_t>(experts.find(list)->second.size());
    if (active_experts < 1 || active_experts > all)
      raise<value_error>("loraga_plan", "--active-experts",
                         active_experts == 0 ? "missing" : std::to_string(active_experts),
                         "1.." + std::to_string(all) + ": how many of the experts work for a token");
    return static_cast<double>(active_experts) / static_cast<double>(all);
  };
  module_naming const naming;
  for (auto const& t : find_targets(base, selection, naming, {}, of_family))
    if (t.form == layer_form::linear)
      m.layers.push_back({t.module, t.out, t.in, share_of(t.module), ends_a_block(t.module)});
  bool has_head = false;
  double embedding = 0;
  for (auto const& name : names) {
    auto const w = base[name];
    double const numbers = static_cast<double>(element_count(w.shape(), name));
    m.parameters += numbers;
    m.stored_bytes += static_cast<double>(w.bytes().size());
    auto const module = name.substr(0, name.rfind('.'));
    if (!name.ends_with(".weight") || w.shape().size() != 2) continue;
    has_head = has_head || module.ends_with("lm_head");
    if (!is_embedding(module, {})) m.active += share_of(module) * numbers;
    else if (module.ends_with("embed_tokens") || module.ends_with("wte")) embedding = numbers;
  }
  if (!has_head) m.active += embedding;  // it is the head as well
  return m;
}

/// errors  value_error for a model that is none of these
inline model_shapes find_model(std::string const& text, module_selection const& selection, bool of_family,
                               index_t active_experts) {
  std::string known;
  for (auto const& d : known_models) {
    known += (known.empty() ? "" : ", ") + std::string(d.name);
    if (d.name == text) {
      auto m = shapes_of(d);
      std::erase_if(m.layers, [&](auto const& l) { return !selection.selects(l.name); });
      if (m.layers.empty())
        raise<value_error>("loraga_plan", "--target-modules", "none of " + text + "'s",
                           "q_proj, k_proj, v_proj, o_proj, " +
                               std::string(d.experts > 1 ? "w1, w2, w3" : "gate_proj, up_proj, down_proj"));
      return m;
    }
  }
  if (auto written = written_shapes(text)) return *written;
  std::error_code unknown;
  if (!std::filesystem::exists(text, unknown))
    raise<value_error>("loraga_plan", "MODEL", "'" + text + "'",
                       "one of " + known + ", a file or folder that is there, or shapes as 4096x4096*32");
  return file_shapes(base_model(text), selection, of_family, active_experts);
}

}  // namespace tools::plan
