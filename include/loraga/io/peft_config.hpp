#pragma once
#include <cmath>
#include <loraga/io/json.hpp>
#include <loraga/io/pattern_table.hpp>
#include <loraga/scaling.hpp>
#include <map>
#include <utility>

namespace loraga {

/// adapter_config.json of a LoRA, DoRA or AdaLoRA adapter, as Hugging Face PEFT reads and writes it.
struct peft_config {
  index_t r = 8;  ///< the rank of layers without an exception
  double alpha = 8;
  bool rank_stable = false;  ///< s = alpha/sqrt(r) instead of alpha/r
  /// Exceptions from r by module; the first that fits counts. Keys are regular expressions for the end of a name.
  std::vector<std::pair<std::string, index_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;  ///< exceptions from alpha, likewise
  module_selection targets;                                   ///< target_modules and what goes with it
  double dropout = 0;                                         ///< lora_dropout
  bool fan_in_fan_out = false;                                ///< the base stores its weights in x out (GPT-2's Conv1D)
  std::string base_model, task_type;                          ///< base_model_name_or_path, task_type
  std::string init = "true";                                  ///< init_lora_weights as JSON text, without quotes
  bool dora = false;                                          ///< use_dora
  /// Modules that were trained whole and are saved with the adapter: heads, resized embeddings.
  std::vector<std::string> modules_to_save;
  std::string bias = "none";         ///< which biases of the base were trained: none, all or lora_only
  bool ensure_weight_tying = false;  ///< the adapter of an embedding is its tied head's as well
  /// peft_type ADALORA: r is the rank before pruning (init_r), s = alpha/(r + 1e-5) for all layers.
  bool adalora = false;
  std::map<std::string, index_t, std::less<>> kept_ranks;  ///< of pruned layers, by module; may be 0

  /// Whether training began with a base from which the start of A and B had been subtracted: they are relative to that
  /// one. Writers spell methods as they like (lora_ga, lora-ga, LoRA-GA).
  bool changes_base() const {
    auto const method = plain_init();
    for (auto const* known : {"pissa", "milora", "olora", "corda", "loftq", "loraga", "loraone"})
      if (method.starts_with(known)) return true;
    return false;
  }
  /// Whether this library knows init, so that changes_base can tell.
  bool knows_init() const {
    auto const method = plain_init();
    for (auto const* known : {"true", "false", "null", "gaussian", "orthogonal", "eva", "mica"})
      if (method == known) return true;
    return changes_base();
  }

 private:
  std::string plain_init() const {
    std::string letters;
    for (char const c : init)
      if (c >= 'A' && c <= 'Z') letters += static_cast<char>(c - 'A' + 'a');
      else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) letters += c;
    return letters;
  }
};

/// Rank and scale by module, with patterns compiled once.
/// errors  format_error naming `where` for patterns that cannot be read
class peft_scales {
  pattern_table<index_t> ranks_;
  pattern_table<double> alphas_;
  std::map<std::string, index_t, std::less<>> kept_;
  index_t r_;
  double alpha_;
  bool rank_stable_, adalora_;

 public:
  peft_scales(peft_config const& c, std::string const& where)
      : ranks_(c.rank_pattern, where),
        alphas_(c.alpha_pattern, where),
        kept_(c.kept_ranks),
        r_(c.r),
        alpha_(c.alpha),
        rank_stable_(c.rank_stable),
        adalora_(c.adalora) {}
  index_t rank(std::string_view module) const {
    if (auto const kept = kept_.find(module); kept != kept_.end()) return kept->second;
    return ranks_.find(module, r_);
  }
  double scale(std::string_view module) const {
    if (adalora_) return alpha_ / (static_cast<double>(r_) + adalora_scaling::epsilon);
    auto const r = static_cast<double>(rank(module));
    return alphas_.find(module, alpha_) / (rank_stable_ ? std::sqrt(r) : r);
  }
};

namespace format {

template <class Json>
std::vector<std::string> string_list(Json const& j, std::string const& where, char const* key) {
  std::vector<std::string> list;
  if (!j.is_array()) raise<format_error>(where, key, j.dump().substr(0, 80), "a list of strings");
  for (auto const& x : j) {
    if (!x.is_string()) raise<format_error>(where, key, j.dump().substr(0, 80), "a list of strings");
    list.push_back(x.template get<std::string>());
  }
  return list;
}

/// A list of names, or one string as `single`; null and missing are nothing.
template <class Json>
void names_or_text(Json const& config, char const* key, std::vector<std::string>& names, std::string& single,
                   std::string const& where) {
  auto const p = config.find(key);
  if (p == config.end() || p->is_null()) return;
  if (p->is_string()) single = p->template get<std::string>();
  else names = string_list(*p, where, key);
}

template <class T, class Json>
std::vector<std::pair<std::string, T>> number_by_pattern(Json const& config, char const* key,
                                                         std::string const& where) {
  std::vector<std::pair<std::string, T>> list;
  auto const p = config.find(key);
  if (p == config.end() || p->is_null()) return list;
  if (!p->is_object()) raise<format_error>(where, key, p->dump().substr(0, 80), "numbers by pattern");
  for (auto const& [pattern, value] : p->items()) {
    if (std::is_integral_v<T> ? !value.is_number_integer() : !value.is_number())
      raise<format_error>(where, key + ("['" + pattern + "']"), value.dump().substr(0, 80), "a number");
    list.emplace_back(pattern, value.template get<T>());
  }
  return list;
}

/// What only AdaLoRA's configuration has: how many triplets a layer kept, as a list of true and false.
template <class Json>
void read_adalora(Json const& config, peft_config& c, std::string const& where) {
  c.adalora = true;
  c.rank_stable = false;  // PEFT looks at neither this nor patterns
  c.init = "true";
  c.r = json_field(config, "init_r", index_t{12}, where);
  if (!(c.alpha > 0))
    raise<format_error>(where, "lora_alpha", std::to_string(c.alpha), "above 0 (PEFT takes the rank for others)");
  auto const p = config.find("rank_pattern");
  if (p == config.end() || p->is_null()) return;
  if (!p->is_object()) raise<format_error>(where, "rank_pattern", p->dump().substr(0, 80), "lists by name");
  for (auto const& [key, kept] : p->items()) {
    bool ok = key.ends_with(".lora_E") && kept.is_array() && static_cast<index_t>(kept.size()) == c.r;
    for (auto const& x : kept) ok = ok && x.is_boolean();
    if (!ok)
      raise<format_error>(where, "rank_pattern['" + key + "']", kept.dump().substr(0, 80),
                          "true or false for each of " + std::to_string(c.r) + " triplets of <module>.lora_E");
    c.kept_ranks[key.substr(0, key.size() - 7)] = std::count(kept.begin(), kept.end(), true);
  }
}

/// ADALORA's keys of adapter_config.json. total_step is one that PEFT accepts: whoever goes on training sets a
/// schedule.
inline void write_adalora(peft_config const& c, nlohmann::json& config) {
  config["peft_type"] = "ADALORA";
  config["init_r"] = c.r;
  config["total_step"] = 1;
  config.erase("r");
  auto& pattern = config["rank_pattern"] = nullptr;
  for (auto const& [module, rank] : c.kept_ranks) {
    std::vector<bool> kept(static_cast<std::size_t>(c.r), false);
    std::fill(kept.begin(), kept.begin() + rank, true);
    pattern[module + ".lora_E"] = kept;
  }
}

}  // namespace format

/// Reads adapter_config.json. A setting that this library does not have is refused if it changes what an adapter
/// computes, and left aside if not.
/// errors  format_error naming `where` and the key
inline peft_config parse_peft_config(std::string_view text, std::string const& where) {
  auto const json = parse_json<nlohmann::ordered_json>(text, where);
  if (!json.is_object()) raise<format_error>(where, "configuration", "no JSON object", "an object");
  auto const type = json_field(json, "peft_type", std::string(), where);
  bool const adalora = type == "ADALORA", fork = type == "LORAGA";  // that of LoRA-GA's authors
  if (!adalora && !fork && type != "LORA")
    raise<format_error>(where, "peft_type", "'" + type + "'",
                        "LORA, ADALORA or LORAGA: other methods' adapters are not supported");
  for (auto const* key : {"r", "lora_alpha"})
    if (auto const p = json.find(key); p != json.end() && p->is_null())
      raise<format_error>(where, key, "null", "a number: without it the adapter's strength is not known");
  for (auto const* key :
       {"use_qalora", "lora_bias", "layer_replication", "alora_invocation_tokens", "trainable_token_indices",
        "target_parameters", "monteclora_config", "arrow_config", "kasa_config", "use_bdlora"}) {
    auto const p = json.find(key);
    bool const off =
        p == json.end() || p->is_null() || *p == false || ((p->is_array() || p->is_object()) && p->empty());
    if (!off) raise<format_error>(where, key, p->dump().substr(0, 80), "off (not supported)");
  }

  peft_config c;
  c.bias = json_field(json, "bias", c.bias, where);
  if (c.bias != "none" && c.bias != "all" && c.bias != "lora_only")
    raise<format_error>(where, "bias", "'" + c.bias + "'", "none, all or lora_only");
  if (auto const p = json.find("modules_to_save"); p != json.end() && !p->is_null())
    c.modules_to_save = format::string_list(*p, where, "modules_to_save");
  c.ensure_weight_tying = json_field(json, "ensure_weight_tying", false, where);
  c.r = json_field(json, "r", c.r, where);
  c.alpha = json_field(json, "lora_alpha", c.alpha, where);
  c.rank_stable = json_field(json, "use_rslora", c.rank_stable, where);
  c.dropout = json_field(json, "lora_dropout", c.dropout, where);
  c.fan_in_fan_out = json_field(json, "fan_in_fan_out", c.fan_in_fan_out, where);
  c.base_model = json_field(json, "base_model_name_or_path", c.base_model, where);
  c.task_type = json_field(json, "task_type", c.task_type, where);
  if (auto const p = json.find("init_lora_weights"); p != json.end())
    c.init = p->is_string() ? p->template get<std::string>() : p->dump();
  if (fork && !c.changes_base()) c.init = "lora_ga";
  c.dora = json_field(json, "use_dora", c.dora, where);
  if (adalora) {
    if (c.dora) raise<format_error>(where, "use_dora", "true", "false for ADALORA");
    format::read_adalora(json, c, where);
  } else {
    c.rank_pattern = format::number_by_pattern<index_t>(json, "rank_pattern", where);
    c.alpha_pattern = format::number_by_pattern<double>(json, "alpha_pattern", where);
  }
  auto const require_rank = [&](index_t r, std::string const& name) {
    if (r < 1 || r > (index_t{1} << 31)) raise<format_error>(where, name, std::to_string(r), "a rank of 1 to 2^31");
  };
  require_rank(c.r, "r");
  for (auto const& [key, r] : c.rank_pattern) require_rank(r, "rank_pattern['" + key + "']");

  auto& t = c.targets;
  format::names_or_text(json, "target_modules", t.names, t.expression, where);
  format::names_or_text(json, "exclude_modules", t.excluded, t.excluded_expression, where);
  if (auto const p = json.find("layers_pattern"); p != json.end() && !p->is_null())
    t.layer_words =
        p->is_string() ? std::vector{p->template get<std::string>()} : format::string_list(*p, where, "layers_pattern");
  if (auto const p = json.find("layers_to_transform"); p != json.end() && !p->is_null()) {
    auto const layers = p->is_array() ? *p : nlohmann::ordered_json::array({*p});
    for (auto const& l : layers) {
      if (!l.is_number_integer())
        raise<format_error>(where, "layers_to_transform", p->dump().substr(0, 80), "whole numbers");
      t.layers.push_back(l.template get<index_t>());
    }
  }
  return c;
}

/// The text of adapter_config.json: sorted keys, indented by 2, as PEFT writes it.
inline std::string peft_config_text(peft_config const& c) {
  using nlohmann::json;
  auto const text_or_null = [](std::string const& s) { return s.empty() ? json(nullptr) : json(s); };
  auto const number = [](double x) {
    return x == std::floor(x) && std::abs(x) < 1e15 ? json(static_cast<std::int64_t>(x)) : json(x);
  };
  json ranks = json::object(), alphas = json::object();
  for (auto const& [key, r] : c.rank_pattern) ranks[key] = r;
  for (auto const& [key, alpha] : c.alpha_pattern) alphas[key] = number(alpha);
  json all{{"alpha_pattern", alphas},
           {"base_model_name_or_path", text_or_null(c.base_model)},
           {"bias", c.bias},
           {"fan_in_fan_out", c.fan_in_fan_out},
           {"inference_mode", true},
           {"init_lora_weights", true},  // others make PEFT change the base again when it loads this
           {"lora_alpha", number(c.alpha)},
           {"lora_dropout", c.dropout},
           {"modules_to_save", c.modules_to_save.empty() ? json(nullptr) : json(c.modules_to_save)},
           {"peft_type", "LORA"},
           {"r", c.r},
           {"rank_pattern", ranks},
           {"target_modules", c.targets.expression.empty() ? json(c.targets.names) : json(c.targets.expression)},
           {"task_type", text_or_null(c.task_type)},
           {"use_dora", c.dora},
           {"use_rslora", c.rank_stable}};
  if (c.ensure_weight_tying) all["ensure_weight_tying"] = true;  // older versions do not know the key
  if (c.adalora) format::write_adalora(c, all);
  return all.dump(2, ' ', true);
}

}  // namespace loraga
