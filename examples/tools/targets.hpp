#pragma once
#include <loraga/io/base_facts.hpp>
#include <loraga/io/base_model.hpp>
#include <loraga/io/module_match.hpp>
#include <loraga/io/module_selection.hpp>

// The layers of a base that get an adapter.

namespace tools {

using namespace loraga;

/// A layer of the base that gets an adapter.
struct target {
  std::string module;  ///< its name
  weight_place place;  ///< in the base's files
  layer_form form = layer_form::linear;
  index_t out = 0, in = 0;   ///< of W; an embedding's is dim x vocabulary
  std::uint64_t number = 0;  ///< among all targets: separates their random numbers

  std::string name_in_base() const { return place.weight.substr(0, place.weight.size() - 7); }
  /// Whether the files hold the transpose of W.
  bool is_transposed() const { return form == layer_form::embedding || place.in_by_out; }
};

/// What is wrong with some layers, thrown together.
class layer_problems {
  std::vector<std::string> found_;

 public:
  void add(std::string const& module, std::string const& what) { found_.push_back(module + ": " + what); }
  template <class E>
  void raise_any() const {
    if (found_.empty()) return;
    std::string text = std::to_string(found_.size()) + (found_.size() == 1 ? " layer" : " layers") +
                       " cannot be started (--exclude leaves modules out):";
    for (std::size_t i = 0; i < std::min<std::size_t>(found_.size(), 20); ++i) text += "\n  " + found_[i];
    if (found_.size() > 20) text += "\n  and " + std::to_string(found_.size() - 20) + " more";
    throw E(text);
  }
};

/// A name to sort by: numbers by their size.
inline std::string sort_key(std::string const& name) {
  std::string key;
  for (std::size_t i = 0; i < name.size();) {
    std::size_t const end = std::min(name.find_first_not_of("0123456789", i), name.size());
    if (end > i) key += std::string(end - i < 12 ? 12 - (end - i) : 0, '0') + name.substr(i, end - i);
    else key += name[i];
    i = std::max(end, i + 1);
  }
  return key;
}

/// Whether a matrix of that name is an embedding's, whose columns ids choose: files do not say so.
inline bool is_embedding(std::string_view module, std::vector<std::string> const& more) {
  auto word = module.substr(module.rfind('.') + 1);
  if (word.find_first_not_of("0123456789") == word.npos) {  // one of a list: embed_tokens.0
    auto const list = module.substr(0, module.size() - word.size() - 1);
    word = list.substr(list.rfind('.') + 1);
  }
  for (auto const* known : {"embed_tokens",
                            "embed_positions",
                            "embed_in",
                            "embeddings",
                            "embedding",
                            "tok_embeddings",
                            "tokens_embed",
                            "positions_embed",
                            "token_embedding",
                            "token_embeddings",
                            "position_embedding",
                            "position_embeddings",
                            "token_type_embeddings",
                            "word_embedding",
                            "word_embeddings",
                            "wte",
                            "wpe",
                            "shared",
                            "relative_attention_bias",
                            "embed",
                            "embed_tokens_per_layer",
                            "input_embedding",
                            "word_embed",
                            "tok_emb",
                            "pos_emb",
                            "lang_embeddings"})
    if (word == known) return true;
  return std::any_of(more.begin(), more.end(),
                     [&](auto const& name) { return module == name || module.ends_with("." + name); });
}

/// How names in the base's files become module names.
struct module_naming {
  std::vector<name_change> renames = {};
  std::string prefix = {};
  std::vector<std::string> embeddings = {};  ///< of modules, or their ends, that are embeddings

  std::string module(std::string const& name_in_base) const { return renamed(prefix + name_in_base, renames); }
};

/// Whether a linear layer's weight lies in x out: as config.json has it, else as models of a family have it.
/// errors  value_error where neither says it and the module is called like GPT-2's Conv1D
inline bool lies_in_by_out(std::string const& module, base_facts const& facts, bool of_family) {
  bool const called = is_called_conv1d(module);
  if (!facts.model_types.empty()) return called && facts.has_conv1d();
  if (called && !of_family)
    raise<value_error>("targets", module, "called like GPT-2's Conv1D, and no config.json says what the base is",
                       "--family gpt2, --fan-in-fan-out (in x out) or --no-fan-in-fan-out");
  return called;
}

/// The base's matrices that the selection means, in the order of their layers. `in_by_out` says how linear layers lie;
/// nothing: see lies_in_by_out. In a GGUF file they lie out x in, and any type that is decoded will do.
/// errors  value_error if there are none, and for quantised weights; shape_error for convolutions and other things that
///         are no matrices
inline std::vector<target> find_targets(base_model const& base, module_selection const& selection,
                                        module_naming const& naming, std::optional<bool> in_by_out, bool of_family) {
  std::vector<target> targets;
  std::string words;
  auto const* files = base.in_safetensors();
  base_facts const facts = files ? base_facts(*files) : base_facts();
  for (auto const& name : base.names()) {
    if (!name.ends_with(".weight") || base[name].shape().size() < 2) continue;
    auto const module = naming.module(name.substr(0, name.size() - 7));
    if (words.size() < 300) words += "\n  " + module;
    if (!selection.selects(module)) continue;
    if (auto const form = files ? quantised_form(*files, name) : std::string(); !form.empty())
      raise<value_error>("targets", module, "quantised: " + form, "weights in F64, F32, F16 or BF16");
    auto const w = base[name];
    if (w.shape().size() > 2)
      raise<shape_error>("targets", module, shape_text(w.shape()), "a linear layer's two sizes (see --exclude)");
    target t{module, {name}, is_embedding(module, naming.embeddings) ? layer_form::embedding : layer_form::linear};
    if (t.form == layer_form::linear && files)
      t.place.in_by_out = in_by_out ? *in_by_out : lies_in_by_out(module, facts, of_family);
    t.out = t.is_transposed() ? w.cols() : w.rows();
    t.in = t.is_transposed() ? w.rows() : w.cols();
    targets.push_back(std::move(t));
  }
  if (targets.empty()) {
    auto const form = files ? quantised_form(*files) : std::string();
    throw value_error("no module of " + base.path().string() + " is selected" +
                      (form.empty() ? "" : ", and it is quantised: " + form) + "; its matrices begin with" + words);
  }
  std::sort(targets.begin(), targets.end(),
            [](auto const& a, auto const& b) { return sort_key(a.module) < sort_key(b.module); });
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i].number = i;
  return targets;
}

}  // namespace tools
