#pragma once
#include <algorithm>
#include <loraga/core/config.hpp>
#include <loraga/core/error.hpp>
#include <regex>
#include <string>
#include <vector>

// Which modules an adapter is for, and which of several patterns fits one: by PEFT's rules.

namespace loraga {

/// A regular expression that Python's re and C++'s ECMAScript read alike, tried on whole names. It takes time
/// polynomial in their length, because configurations come from strangers.
/// errors  format_error naming `where` for syntax that C++ does not have, or more than 1000 characters
class module_pattern {
  std::string text_;
  std::regex whole_, end_;
  bool plain_;

 public:
  module_pattern(std::string text, std::string const& where) : text_(std::move(text)) {
    plain_ = is_plain(text_);
    if (plain_) return;
    auto const refuse = [&](std::string const& why) {
      raise<format_error>(where, "pattern", "'" + text_.substr(0, 80) + "' (" + why + ")", "a regular expression");
    };
    if (text_.size() > 1000) refuse("over 1000 characters");
    if (auto const why = python_only(); !why.empty()) refuse(why);
    auto flags = std::regex::ECMAScript | std::regex::optimize;
#ifdef __GLIBCXX__
    flags |= std::regex_constants::__polynomial;
#endif
    try {
      whole_ = std::regex(text_, flags);
      end_ = std::regex("(?:.*\\.)?(?:" + text_ + ")", flags);  // as PEFT writes it: ^ is the name's beginning
    } catch (std::regex_error const& e) {
      refuse(e.what());
    }
  }
  /// The expression.
  std::string const& text() const { return text_; }
  /// Whether it is a name: nothing in it is special but dots, which fit any character.
  static bool is_plain(std::string_view text) {
    return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") == text.npos;
  }

  /// re.fullmatch
  bool fits(std::string_view name) const {
    if (!plain_) return std::regex_match(name.begin(), name.end(), whole_);
    if (name.size() != text_.size()) return false;
    for (std::size_t i = 0; i < name.size(); ++i)
      if (text_[i] != '.' && text_[i] != name[i]) return false;
    return true;
  }
  /// The whole name, or what follows one of its dots: how PEFT tries the keys of rank_pattern and alpha_pattern.
  bool fits_end(std::string_view name) const {
    if (!plain_) return std::regex_match(name.begin(), name.end(), end_);
    if (fits(name)) return true;
    for (auto dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1))
      if (fits(name.substr(dot + 1))) return true;
    return false;
  }

 private:
  /// What C++ does not have, or reads otherwise without a complaint.
  std::string python_only() const {
    auto const at = [&](std::size_t i) { return i < text_.size() ? text_[i] : '\0'; };
    auto const one_of = [](char c, std::string_view of) { return c != '\0' && of.find(c) != of.npos; };
    auto const in = [](char c, char first, char last) { return c >= first && c <= last; };
    bool in_class = false;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      char const c = text_[i], next = at(i + 1);
      if (c == '\\') {
        bool const word = in(next, 'a', 'z') || in(next, 'A', 'Z') || in(next, '0', '9');
        if (word && !one_of(next, in_class ? "dDsSwW" : "bBdDsSwW")) return "an escape that C++ reads otherwise";
        ++i;
      } else if (in_class) {
        if (c == '[' && one_of(next, ":.=")) return "a class of C++'s own";
        in_class = c != ']';
      } else if (c == '[') {
        if (next == ']' || (next == '^' && at(i + 2) == ']')) return "a class that starts with ]";
        in_class = true;
      } else if (c == '(' && next == '?' && !one_of(at(i + 2), ":=!")) {
        return "a group of Python's own";
      }
    }
    return {};
  }
};

/// PEFT's target_modules and what goes with it.
struct module_selection {
  std::vector<std::string> names;        ///< a module is meant by its whole name or what follows one of its dots
  std::string expression;                ///< instead of names: a regular expression for the whole name
  std::vector<std::string> excluded;     ///< names, as above, that are not meant
  std::string excluded_expression;       ///< instead of excluded
  std::vector<index_t> layers;           ///< only these layer numbers, if any: the first "<word>.<number>." of a name
  std::vector<std::string> layer_words;  ///< words that come before a layer's number, if not any word

  /// Whether a module is meant.
  bool selects(std::string_view module) const {
    if (!excluded_expression.empty() ? matches(excluded_expression, module) : listed(excluded, module)) return false;
    if (!expression.empty()) return matches(expression, module);
    if (std::find(names.begin(), names.end(), module) != names.end()) return true;  // PEFT looks at no layer then
    return listed(names, module) && (layers.empty() || in_layers(module));
  }

 private:
  static bool matches(std::string const& expression, std::string_view module) {
    return module_pattern(expression, "module_selection").fits(module);
  }
  static bool listed(std::vector<std::string> const& names, std::string_view module) {
    for (auto const& n : names)
      if (module == n ||
          (module.size() > n.size() && module.ends_with(n) && module[module.size() - n.size() - 1] == '.'))
        return true;
    return false;
  }
  bool in_layers(std::string_view module) const {
    std::vector<std::string_view> words;
    for (std::size_t from = 0; from <= module.size();) {
      auto const dot = std::min(module.find('.', from), module.size());
      words.push_back(module.substr(from, dot - from));
      from = dot + 1;
    }
    // A number counts with a word before it and something after it; without layer_words that word has one before it.
    for (std::size_t i = layer_words.empty() ? 2 : 1; i + 1 < words.size(); ++i) {
      bool const number = !words[i].empty() && words[i].find_first_not_of("0123456789") == words[i].npos;
      bool const after = layer_words.empty() || std::any_of(layer_words.begin(), layer_words.end(), [&](auto const& w) {
                           return module_pattern(w, "layers_pattern").fits(words[i - 1]);
                         });
      if (!number || !after) continue;
      for (index_t const l : layers)
        if (words[i].substr(std::min(words[i].find_first_not_of('0'), words[i].size() - 1)) == std::to_string(l))
          return true;
      return false;
    }
    return false;
  }
};

/// What a family of models calls its linear layers.
struct module_preset {
  std::string_view family;         ///< llama, gpt2, ...
  std::vector<std::string> names;  ///< ends of module names
  bool fan_in_fan_out;             ///< weights are stored in x out
  std::string_view module_prefix;  ///< in module names, where files of the bare model lack it
};

/// All linear layers but heads and poolers.
inline std::vector<module_preset> const& module_presets() {
  static std::vector<module_preset> const all{
      {"llama", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}, false, "model."},
      {"gpt2", {"c_attn", "c_proj", "c_fc"}, true, "transformer."},
      {"bert", {"query", "key", "value", "intermediate.dense", "output.dense"}, false, "bert."},
      {"t5", {"q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"}, false, ""}};
  return all;
}
/// errors  value_error for a family that is not listed
inline module_preset const& preset_of(std::string_view family) {
  std::string known;
  for (auto const& p : module_presets()) {
    if (p.family == family || (family == "qwen" && p.family == "llama")) return p;
    known += (known.empty() ? "" : ", ") + std::string(p.family);
  }
  raise<value_error>("preset_of", "family", "'" + std::string(family) + "'", "one of " + known + " or qwen");
}

}  // namespace loraga
