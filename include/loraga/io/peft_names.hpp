#pragma once
#include <loraga/io/safetensors.hpp>
#include <set>

// What the keys of PEFT's adapter files say, in the spellings that its versions and those who wrap models have.

namespace loraga::format {

inline std::string const peft_prefix = "base_model.model.";

enum class peft_part {
  factor,     ///< of an adapter: `suffix` tells which
  parameter,  ///< of a layer that was saved whole: `name` is its own
  base_copy,  ///< the same of a layer that has an adapter as well: its base's weight or bias
  buffer      ///< of training alone; PEFT does not need it to compute
};

/// One key, taken apart.
struct peft_key {
  peft_part part;
  std::string module;   ///< of a factor: the layer's name
  std::string suffix;   ///< of a factor, as PEFT writes it now: ".lora_A.weight"
  std::string name;     ///< of a whole parameter: "lm_head.weight"
  std::string adapter;  ///< the adapter's name, where the key has it ("default")
};

inline std::vector<std::string> split_words(std::string_view name) {
  std::vector<std::string> words;
  for (std::size_t from = 0; from <= name.size();) {
    auto const dot = std::min(name.find('.', from), name.size());
    words.emplace_back(name.substr(from, dot - from));
    from = dot + 1;
  }
  return words;
}
template <class Words>
std::string join_words(Words const& words, std::size_t first, std::size_t last) {
  std::string name;
  for (std::size_t i = first; i < last; ++i) name += (i > first ? "." : "") + std::string(words[i]);
  return name;
}

/// A name without what wrappers put into it: torch.compile's, FSDP's and Lightning's words anywhere, DDP's module in
/// front.
inline std::string unwrapped(std::string_view name) {
  std::vector<std::string> kept;
  for (auto& word : split_words(name)) {
    bool const front = kept.empty() && word == "module";
    bool const wrapper = word == "_orig_mod" || word == "_fsdp_wrapped_module" ||
                         word == "_checkpoint_wrapped_module" || word == "_forward_module";
    if (!front && !wrapper) kept.push_back(std::move(word));
  }
  return join_words(kept, 0, kept.size());
}

/// A factor's words after "lora_": A, [adapter's name], [weight].
inline peft_key parse_factor(std::string module, std::vector<std::string> const& words, std::size_t at) {
  std::string const kind = words[at].substr(5);
  std::size_t end = words.size();
  bool const weight = end > at + 1 && words[end - 1] == "weight";
  if (weight) --end;
  peft_key key{peft_part::factor, std::move(module), ".lora_" + kind, {}, join_words(words, at + 1, end)};
  bool const known = kind == "A" || kind == "B" || kind == "E" || kind == "embedding_A" || kind == "embedding_B" ||
                     kind == "magnitude_vector";
  if (kind.starts_with("velora")) key.part = peft_part::buffer;
  else if (!known || key.adapter.find('.') != std::string::npos || key.adapter == "bias") key.suffix.clear();
  if (weight && (kind == "A" || kind == "B")) key.suffix += ".weight";
  return key;
}

/// A tensor's key in an adapter file, whose factors bear the name `adapter`, if any.
/// errors  format_error naming `where` for keys that are none of PEFT's for a LoRA
inline peft_key parse_peft_key(std::string const& text, std::string const& where, std::string const& adapter = {}) {
  auto name = unwrapped(text);
  auto const refuse = [&](char const* found, char const* expected) {
    raise<format_error>(where, "'" + text + "'", found, expected);
  };
  char const* const known =
      "base_model.model.<module>.lora_A.weight, .lora_B.weight, what DoRA, AdaLoRA and embeddings have, or a layer "
      "saved whole (.weight, .bias)";
  if (!name.starts_with(peft_prefix) || name.size() == peft_prefix.size()) refuse("unknown", known);
  name.erase(0, peft_prefix.size());
  auto const words = split_words(name);
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i].starts_with("lora_") && i > 0) {
      auto key = parse_factor(join_words(words, 0, i), words, i);
      if (key.part == peft_part::factor && key.suffix.find("lora_") == std::string::npos) refuse("unknown", known);
      return key;
    }
    auto const rest = [&](std::size_t from) {
      auto const module = join_words(words, 0, i), parameter = join_words(words, from, words.size());
      return module.empty() ? parameter : module + "." + parameter;
    };
    if (words[i] == "base_layer" && i + 1 < words.size()) return {peft_part::base_copy, {}, {}, rest(i + 1), {}};
    if (words[i] == "original_module") return {peft_part::buffer, {}, {}, {}, {}};
    if (words[i] == "modules_to_save" && i + 1 < words.size()) {
      bool const named = words[i + 1] == "default" || (!adapter.empty() && words[i + 1] == adapter);
      return {peft_part::parameter, {}, {}, rest(i + 1 + named), named ? words[i + 1] : ""};
    }
  }
  if (words.back() == "trainable_tokens_delta")
    refuse("rows of an embedding that were trained alone (trainable_token_indices)", "an adapter without them");
  if (words.back() != "weight" && words.back() != "bias") refuse("unknown", known);
  return {peft_part::parameter, {}, {}, name, {}};
}

}  // namespace loraga::format
