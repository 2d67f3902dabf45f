#pragma once
#include <loraga/io/peft_names.hpp>
#include <loraga/io/quantised.hpp>
#include <set>
#include <tuple>
#include <unordered_map>

// Modules of an adapter in a base whose files give them other leading words.

namespace loraga {

/// Leading words of a name and what stands for them: {"model.language_model", "model"}.
struct name_change {
  std::string from, to;  ///< either may be empty
  bool operator==(name_change const&) const = default;
  bool operator<(name_change const& o) const { return std::tie(from, to) < std::tie(o.from, o.to); }
};

/// The name with the first change that fits its leading words.
inline std::string renamed(std::string_view name, std::vector<name_change> const& changes) {
  for (auto const& [from, to] : changes) {
    bool const whole = name == from, leading = name.starts_with(from) && name.substr(from.size()).starts_with('.');
    if (!from.empty() && !whole && !leading) continue;
    auto rest = name.substr(from.empty() ? 0 : std::min(name.size(), from.size() + 1));
    return to.empty() ? std::string(rest) : rest.empty() ? to : to + "." + std::string(rest);
  }
  return std::string(name);
}

namespace format {

/// Words that a model's class, or a wrapper, puts before the names of the same modules. A word that is not among them
/// may tell one part of a model from another.
inline bool is_wrapping(std::string const& word, std::vector<std::string> const& model_types) {
  for (auto const* known :
       {"model", "base_model", "transformer", "backbone", "language_model", "text_model", "llm", "bert", "roberta",
        "distilbert", "electra", "albert", "deberta", "mpnet", "gpt_neox", "vit", "esm"})
    if (word == known) return true;
  auto const plain = [](std::string text) {
    std::erase_if(text, [](char c) { return c == '-' || c == '_'; });
    return text;
  };
  return std::any_of(model_types.begin(), model_types.end(),
                     [&](auto const& type) { return plain(type) == plain(word); });
}
/// Whether two leads are those of one module: what differs are wrappers' words. A layer's number in them would make
/// each layer a case of its own.
inline bool differs_by_wrapping(name_change const& lead, std::vector<std::string> const& model_types) {
  auto from = split_words(lead.from), to = split_words(lead.to);
  auto const number = [](std::string const& w) { return !w.empty() && w.find_first_not_of("0123456789") == w.npos; };
  if (std::any_of(from.begin(), from.end(), number) || std::any_of(to.begin(), to.end(), number)) return false;
  std::sort(from.begin(), from.end());
  std::sort(to.begin(), to.end());
  std::vector<std::string> differing;
  std::set_symmetric_difference(from.begin(), from.end(), to.begin(), to.end(), std::back_inserter(differing));
  return std::all_of(differing.begin(), differing.end(),
                     [&](auto const& word) { return word.empty() || is_wrapping(word, model_types); });
}

/// Names of a base's tensors by their ends: what follows one of their dots.
class names_by_end {
  static constexpr std::size_t most = 4;  // names that end alike and are looked at
  struct entry {
    std::array<std::size_t, most> at{};
    std::size_t count = 0;
  };
  std::vector<std::string> names_;
  std::unordered_map<std::string, entry> ends_;

 public:
  explicit names_by_end(safetensors_model const& base) : names_(base.names()) {
    for (std::size_t i = 0; i < names_.size(); ++i)
      for (std::string_view end = names_[i];;) {
        auto& e = ends_[std::string(end)];
        if (e.count < most) e.at[e.count] = i;
        ++e.count;
        auto const dot = end.find('.');
        if (dot == end.npos) break;
        end.remove_prefix(dot + 1);
      }
  }
  struct found {
    std::string name;       // in the base
    std::size_t count = 0;  // of names that end alike, and are as likely
    name_change lead;       // what comes before their common end
  };
  /// The name with the longest end in common, of at least two words (one and "weight"): count 0 if there is none. Of
  /// several, the one whose lead shares a word with this name's that the others' lack, as language_model.
  found longest(std::string_view name) const {
    for (auto end = name; end.find('.') != end.npos; end.remove_prefix(end.find('.') + 1)) {
      auto const p = ends_.find(std::string(end));
      if (p == ends_.end()) continue;
      auto const lead = [&](std::string_view s) {
        return std::string(s.substr(0, s.size() - std::min(s.size(), end.size() + 1)));
      };
      auto const& at = p->second.at;  // not a structured binding: clang 14 lets no lambda use one
      auto const count = p->second.count;
      std::size_t chosen = at[0], likely = 0;
      for (std::size_t i = 0; count <= most && i < count; ++i) {
        auto const words = split_words(lead(name));
        bool const own = std::any_of(words.begin(), words.end(), [&](auto const& word) {
          for (std::size_t j = 0; j < count; ++j) {
            auto const there = split_words(lead(names_[at[j]]));
            if ((std::find(there.begin(), there.end(), word) != there.end()) != (i == j)) return false;
          }
          return true;
        });
        if (own) chosen = at[i];
        likely += own;
      }
      return {names_[chosen], likely == 1 ? 1 : count, {lead(name), lead(names_[chosen])}};
    }
    return {};
  }
};

}  // namespace format

/// Names in the base for names of an adapter, both of tensors ("....weight").
struct module_match {
  std::map<std::string, std::string> names;    ///< of those that the base has
  std::map<name_change, std::string> changes;  ///< of leading words, each with a name that shows it
};

/// Finds an adapter's tensors in a base: those of the same name, else those with the longest end in common. The base's
/// names may have more, fewer or other leading words: AutoModel's, wrappers', a vision model's text part. Such a match
/// must be certain: one tensor for each name and none for two names, the same change of leading words for all, and only
/// of wrappers' words (those known, and the base's `model_types`). `required` names must all be found. `optional`
/// names, as a new head's, are looked up where a change fits them.
/// errors  value_error naming one that is not found, what comes near, and the way out
/// cost    linear in the names
inline module_match match_modules(safetensors_model const& base, std::vector<std::string> const& required,
                                  std::vector<std::string> const& optional = {},
                                  std::vector<std::string> const& model_types = {}) {
  module_match match;
  std::optional<format::names_by_end> ends;  // only if it is needed
  std::map<std::string, std::string> taken, changes;
  // Called once, on the way to an exception.  NOLINTNEXTLINE(performance-unnecessary-value-param)
  auto const refuse = [&](std::string const& name, std::string found) {
    if (auto const form = quantised_form(base); !form.empty() && !base.contains(name))
      raise<value_error>("match_modules", "'" + name + "'",
                         "not in " + base.path().string() + ", which is quantised: " + form, full_precision_advice);
    raise<value_error>("match_modules", "'" + name + "'", "not in " + base.path().string() + found,
                       "a module of the base, or --rename OLD=NEW for the leading words that differ");
  };
  auto const take = [&](std::string const& name, std::string const& there, name_change const& lead) {
    auto const [p, fresh] = taken.emplace(there, name);
    if (!fresh) refuse(name, "; '" + there + "' is that of '" + p->second + "' already");
    match.names[name] = there;
    if (lead.from == lead.to) return;
    auto const [q, first] = changes.emplace(lead.from, lead.to);
    if (q->second != lead.to)
      refuse(name, " for certain: '" + lead.from + "' would be '" + lead.to + "', and '" + q->second + "' for others");
    match.changes.emplace(lead, name);
  };
  auto const find = [&](std::string const& name, bool must) {
    if (base.contains(name)) return take(name, name, {});
    if (!ends) ends.emplace(base);
    auto const ending = ends->longest(name);
    bool const wraps = ending.count == 1 && format::differs_by_wrapping(ending.lead, model_types);
    if (must && !wraps)
      refuse(name, ending.count == 0   ? ""
                   : ending.count == 1 ? "; '" + ending.name + "' may be another part's"
                                       : "; " + std::to_string(ending.count) + " end alike, as '" + ending.name + "'");
    bool const certain = wraps && (ending.lead.from.empty() || ending.lead.to.empty());
    auto const known = changes.find(ending.lead.from);
    if (must || certain || (wraps && known != changes.end() && known->second == ending.lead.to))
      take(name, ending.name, ending.lead);
  };
  for (auto const& name : required) find(name, true);
  for (auto const& name : optional) find(name, false);
  return match;
}

}  // namespace loraga
