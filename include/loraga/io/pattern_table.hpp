#pragma once
#include <cctype>
#include <loraga/io/module_selection.hpp>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace loraga {

/// Values by pattern, of which the first that fits a module counts: rank_pattern and alpha_pattern. The time of a
/// look-up depends on how many expressions are listed, not on how many names. Keys are tried as PEFT tries them, on the
/// end of a name. In a list of more than 256 plain names a dot is a dot.
template <class T>
class pattern_table {
  std::vector<std::pair<module_pattern, T>> entries_;
  std::unordered_map<std::string, std::size_t> names_, whole_names_;  // first entry of that text
  std::vector<std::size_t> tried_;                                    // entries that are tried one by one

  /// "^name", with what is special in it escaped, is that whole name and nothing else.
  static std::optional<std::string> whole_name(std::string_view text) {
    if (!text.starts_with('^')) return {};
    std::string name;
    for (std::size_t i = 1; i < text.size(); ++i) {
      if (text[i] == '\\' && i + 1 < text.size() && !std::isalnum(static_cast<unsigned char>(text[i + 1]))) ++i;
      else if (std::string_view("^$\\.+*?()[]{}|").find(text[i]) != std::string_view::npos) return {};
      name += text[i];
    }
    return name;
  }

 public:
  /// errors  format_error naming `where` for patterns that cannot be read
  pattern_table(std::vector<std::pair<std::string, T>> const& list, std::string const& where) {
    std::size_t plain = 0;
    for (auto const& [text, value] : list) plain += module_pattern::is_plain(text);
    for (std::size_t i = 0; i < list.size(); ++i) {
      auto const& [text, value] = list[i];
      auto const name = whole_name(text);
      // A name that is known is found by itself; its pattern need not be compiled.
      entries_.emplace_back(module_pattern(name ? std::string() : text, where), value);
      names_.emplace(text, i);
      if (name) whole_names_.emplace(*name, i);
      else if (plain <= 256 || !module_pattern::is_plain(text)) tried_.push_back(i);
    }
  }
  /// The value of the first pattern that fits, or `otherwise`.
  T find(std::string_view module, T otherwise) const {
    std::size_t best = entries_.size();
    auto const look = [&](auto const& map, std::string_view name) {
      if (auto const p = map.find(std::string(name)); p != map.end()) best = std::min(best, p->second);
    };
    look(whole_names_, module);
    for (auto end = module; tried_.size() < entries_.size() && module_pattern::is_plain(end);) {
      look(names_, end);
      auto const dot = end.find('.');
      if (dot == end.npos) break;
      end.remove_prefix(dot + 1);
    }
    for (std::size_t const i : tried_) {
      if (i >= best) break;
      if (entries_[i].first.fits_end(module)) best = i;
    }
    if (best == entries_.size()) look(names_, module);  // as PEFT does: a name that is no expression for itself ("a+b")
    return best < entries_.size() ? entries_[best].second : otherwise;
  }
};

}  // namespace loraga
