#pragma once
#include <algorithm>
#include <loraga/io/record_info.hpp>
#include <optional>

// What config.json beside a base's weights says of them, where the weights themselves do not.

namespace loraga {

/// errors  format_error for a config.json that cannot be read
struct base_facts {
  bool has_config = false;                      ///< whether there is a config.json
  std::vector<std::string> model_types;         ///< its own, and those of the models within it
  std::vector<std::string> architectures;       ///< its own
  std::vector<index_t> vocabularies;            ///< sizes, of the models within it as well
  bool says_tied = false, says_untied = false;  ///< tie_word_embeddings, somewhere in it

  base_facts() = default;
  explicit base_facts(safetensors_model const& base) {
    auto const path = base.folder() / "config.json";
    std::error_code unknown;
    if (!std::filesystem::exists(path, unknown)) return;
    auto const json = parse_json<nlohmann::ordered_json>(read_text(path), path.string(), 64);
    if (!json.is_object()) return;
    has_config = true;
    collect(json, 0);
    auto const list = json.find("architectures");
    if (list == json.end() || !list->is_array()) return;
    for (auto const& a : *list)
      if (a.is_string()) architectures.push_back(a);
  }
  /// Whether an architecture's name holds one of these.
  bool is_built_as(std::initializer_list<char const*> parts) const {
    return std::any_of(architectures.begin(), architectures.end(), [&](std::string const& name) {
      return std::any_of(parts.begin(), parts.end(), [&](char const* part) { return name.find(part) != name.npos; });
    });
  }
  /// Whether its head is the embedding's weight. It is if config.json says so, of the model or of a part. If it says
  /// nothing, as many do, it is where the files hold no weight for the head.
  bool is_tied(bool files_hold_head) const {
    bool const has_head = files_hold_head || (architectures.empty() && says_tied) ||
                          is_built_as({"ForCausalLM", "LMHead", "ForConditionalGeneration", "ForMaskedLM",
                                       "ForPreTraining", "EncoderDecoderModel"});
    return has_head && (says_tied || (!says_untied && !files_hold_head));
  }
  /// Whether models of its kind are made of GPT-2's Conv1D, whose weights are in x out.
  /// source  github.com/huggingface/transformers 5.24: the models that use pytorch_utils.Conv1D
  bool has_conv1d() const {
    auto const known = {"gpt2", "openai-gpt",   "imagegpt",    "decision_transformer",
                        "clvp", "clvp_encoder", "clvp_decoder"};
    return std::any_of(model_types.begin(), model_types.end(),
                       [&](auto const& type) { return std::find(known.begin(), known.end(), type) != known.end(); });
  }

 private:
  void collect(nlohmann::ordered_json const& json, int depth) {
    for (auto const& [key, value] : json.items()) {
      if (key == "model_type" && value.is_string()) model_types.push_back(value);
      if (key == "vocab_size" && value.is_number_integer()) vocabularies.push_back(value);
      if (key == "tie_word_embeddings" && value.is_boolean()) (value ? says_tied : says_untied) = true;
      if (value.is_object() && depth < 4) collect(value, depth + 1);
    }
  }
};

/// Whether a module is called like GPT-2's Conv1D layers.
inline bool is_called_conv1d(std::string_view module) {
  auto const word = module.substr(module.rfind('.') + 1);
  return word == "c_attn" || word == "c_proj" || word == "c_fc" || word == "q_attn";
}

/// Whether the base holds a linear layer's weight in x out. Its shape tells. For a square one config.json tells, or the
/// adapter's fan_in_fan_out where nothing speaks against it.
/// errors  value_error where that is not certain: a square weight, and what is known does not agree
inline bool is_in_by_out(record_info const& r, stored_tensor const& w, bool fan_in_fan_out, base_facts const& base) {
  if (r.layer.form != layer_form::linear || w.shape.size() != 2) return false;
  if (r.out != r.in) return w.rows() == r.in && w.cols() == r.out && (fan_in_fan_out || base.has_conv1d());
  bool const called = is_called_conv1d(r.module);
  if (base.has_conv1d()) return called;
  auto const refuse = [&](std::string const& found) {
    raise<value_error>("is_in_by_out(" + r.module + ")", "the layout of a square weight", "not certain: " + found,
                       "config.json of the base beside its weights, or --fan-in-fan-out (in x out: GPT-2's Conv1D) or "
                       "--no-fan-in-fan-out (out x in: all others)");
  };
  if (base.has_config && !base.model_types.empty()) {
    if (fan_in_fan_out)
      refuse("the adapter says fan_in_fan_out, config.json says " + base.model_types[0] + ", which is out x in");
    return false;
  }
  if (called != fan_in_fan_out)
    refuse(called ? "the module is called like GPT-2's Conv1D, the adapter does not say fan_in_fan_out"
                  : "the adapter says fan_in_fan_out, the module is not called like GPT-2's Conv1D");
  return called;
}

}  // namespace loraga
