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

/// What stands between commas, empty parts as well.
inline std::vector<std::string> parts_of(std::string const& text) {
  std::vector<std::string> parts{""};
  for (char const c : text)
    if (c == ',') parts.emplace_back();
    else parts.back() += c;
  return parts;
}
inline std::regex const& shape_pattern() {
  static std::regex const one(R"(([0-9]+)x([0-9]+)(?:\*([0-9]+))?)");
  return one;
}

inline constexpr index_t largest_side = index_t{1} << 24, most_layers = 100000;

/// OUTxIN or OUTxIN*COUNT, with commas between several: a model of these layers alone. Nothing if it is not one.
/// errors  value_error for sizes and numbers of layers that no model has
inline std::optional<model_shapes> written_shapes(std::string const& text) {
  model_shapes m;
  m.name = text;
  auto const parts = parts_of(text);
  for (auto const& part : parts)
    if (!std::regex_match(part, shape_pattern())) return {};
  for (auto const& part : parts) {
    std::smatch found;
    std::regex_match(part, found, shape_pattern());
    auto const number = [&](int which, index_t most, char const* what) {
      auto const digits = found[which].matched ? found[which].str() : std::string("1");
      auto const from = std::min(digits.find_first_not_of('0'), digits.size());
      index_t const n = digits.size() - from > 12 ? most + 1 : digits.size() == from ? 0 : std::stoll(digits);
      if (n < 1 || n > most)
        raise<value_error>("loraga_plan", "MODEL", "'" + part + "'", what + (" from 1 to " + std::to_string(most)));
      return n;
    };
    index_t const out = number(1, largest_side, "sides"), in = number(2, largest_side, "sides"),
                  count = number(3, most_layers, "a number of layers");
    if (static_cast<index_t>(m.layers.size()) + count > most_layers)
      raise<value_error>("loraga_plan", "MODEL",
                         "more than " + std::to_string(most_layers) + " layers with '" + part + "'",
                         std::to_string(most_layers) + " of all parts at most");
    for (index_t i = 0; i < count; ++i) m.layers.push_back({"layer" + std::to_string(m.layers.size()), out, in});
  }
  for (auto const& l : m.layers) m.parameters += numbers_of(l);
  m.active = m.parameters;
  return m;
}
/// errors  value_error where one part looks like a shape, for the first that is none
inline void refuse_malformed_shapes(std::string const& text) {
  static std::regex const begun(R"(\s*[-+]?[0-9]+\s*[xX*].*)");
  auto const parts = parts_of(text);
  if (std::none_of(parts.begin(), parts.end(), [](auto const& p) { return std::regex_match(p, begun); })) return;
  for (auto const& part : parts)
    if (!std::regex_match(part, shape_pattern()))
      raise<value_error>(
          "loraga_plan", "MODEL", "'" + text + "' with the part '" + part + "'",
          "OUTxIN or OUTxIN*COUNT with a small x and whole numbers, as 4096x4096*32, or a file that is there");
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
/// errors  find_targets'; value_error for --active-experts without experts, and for experts of which it is not known how many work for a token
inline model_shapes file_shapes(base_model const& base, module_selection const& selection, bool of_family,
                                index_t active_experts) {
  model_shapes m;
  m.name = base.path().string();
  std::map<std::string, std::set<std::string>, std::less<>> experts;  // their numbers, by list
  auto const names = base.names();
  for (auto const& name : names)
    if (auto const list = expert_list(name); !list.empty())
      experts[std::string(list)].insert(name.substr(list.size(), name.find('.', list.size()) - list.size()));
  if (experts.empty() && active_experts != 0)
    raise<value_error>("loraga_plan", "--active-experts",
                       std::to_string(active_experts) + " of a model without experts", "nothing");
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

/// A known model's layers that get adapters.
/// errors  value_error for options that mean none of them
inline model_shapes known_shapes(decoder_sizes const& d, module_selection const& selection, bool of_family) {
  auto m = shapes_of(d);
  std::string const name = d.name, has = "q_proj, k_proj, v_proj, o_proj, " +
                                         std::string(d.experts > 1 ? "w1, w2, w3" : "gate_proj, up_proj, down_proj");
  auto const any = [&](module_selection const& s) {
    return std::any_of(m.layers.begin(), m.layers.end(), [&](auto const& l) { return s.selects(l.name); });
  };
  for (auto const& word : selection.excluded) {
    module_selection one;
    one.names = {word};
    if (!any(one)) raise<value_error>("loraga_plan", "--exclude", "'" + word + "', none of " + name + "'s", has);
  }
  module_selection all = selection;
  all.excluded.clear();
  if (!any(all)) {
    if (of_family)
      raise<value_error>("loraga_plan", "--family", "one with none of " + name + "'s modules", "llama, or none at all");
    raise<value_error>("loraga_plan", "--target-modules", "none of " + name + "'s", has);
  }
  if (!any(selection)) raise<value_error>("loraga_plan", "--exclude", "all that is selected of " + name, "some of it");
  std::erase_if(m.layers, [&](auto const& l) { return !selection.selects(l.name); });
  return m;
}

/// errors  those of base_model; value_error for a folder without a model
inline base_model open_model(std::string const& path) try {
  return base_model(path);
} catch (file_error const& failure) {
  std::error_code unknown;
  if (failure.code != ENOENT || !std::filesystem::is_directory(path, unknown)) throw;
  raise<value_error>("loraga_plan", "MODEL", "'" + path + "', a folder without a model",
                     "model.safetensors or model.safetensors.index.json in it, or a GGUF file by its own name");
}

/// A name's shapes, written ones or those of files. Where the selection names no modules, a llama's get adapters, and
/// w1, w2 and w3 of experts.
/// errors  value_error for a model that is none of these, and for options that have no meaning with it
inline model_shapes find_model(std::string const& text, module_selection selection, bool of_family,
                               index_t active_experts) {
  auto const meaningless = [&](bool given, char const* option, std::string const& why) {
    if (given) raise<value_error>("loraga_plan", option, "given with '" + text + "'", "none: " + why);
  };
  if (auto written = written_shapes(text)) {
    std::string const why = "shapes have neither names nor experts, and all of them get adapters";
    meaningless(of_family, "--family", why);
    meaningless(!selection.names.empty(), "--target-modules", why);
    meaningless(!selection.excluded.empty(), "--exclude", why);
    meaningless(active_experts != 0, "--active-experts", why);
    return *written;
  }
  if (selection.names.empty()) {
    selection.names = preset_of("llama").names;
    selection.names.insert(selection.names.end(), {"w1", "w2", "w3"});
  }
  std::string known;
  for (auto const& d : known_models) {
    known += (known.empty() ? "" : ", ") + std::string(d.name);
    if (d.name != text) continue;
    meaningless(active_experts != 0, "--active-experts", "the name says how many experts there are and work");
    return known_shapes(d, selection, of_family);
  }
  std::error_code unknown;
  if (!std::filesystem::exists(text, unknown)) {
    refuse_malformed_shapes(text);
    raise<value_error>("loraga_plan", "MODEL", "'" + text + "'",
                       "one of " + known + ", a file or folder that is there, or shapes as 4096x4096*32");
  }
  return file_shapes(open_model(text), selection, of_family, active_experts);
}

}  // namespace tools::plan
