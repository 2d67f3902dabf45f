#pragma once
#include <loraga/io/peft_config.hpp>
#include <loraga/io/record_info.hpp>
#include <set>

// What adapter_config.json has to say so that PEFT gives records the ranks and scales they have, and finds their
// modules.

namespace loraga::format {

/// alpha such that alpha/divisor is s; where no double gives s to the last bit, the next number to it. A short number
/// where one does it.
inline double alpha_of(double scale, double divisor) {
  double const exact = scale * divisor;
  char text[40];
  std::snprintf(text, sizeof text, "%.12g", exact);
  double const shorter = std::strtod(text, nullptr);
  return shorter / divisor == scale ? shorter : exact;
}

/// A name as an expression for itself.
inline std::string escaped(std::string_view name) {
  std::string text;
  for (char const c : name) {
    if (std::string_view("^$\\.+*?()[]{}|").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

/// A key that fits this module and no other: its name, or the same as an anchored expression, which is sure also where
/// there are too many modules to look at them all.
inline std::string pattern_key(std::string const& module, std::vector<std::string> const& all) {
  if (module_pattern::is_plain(module) && all.size() <= 1000) {
    module_pattern const plain(module, "save_peft");
    if (std::all_of(all.begin(), all.end(), [&](auto const& m) { return m == module || !plain.fits_end(m); }))
      return module;
  }
  return "^" + escaped(module);
}

/// r and alpha that most modules share, and patterns for the others.
inline void set_scales(peft_config& c, std::vector<record_info> const& records) {
  auto const commonest = [&](auto const& of) {
    std::map<decltype(of(records[0])), std::size_t> counts;
    for (auto const& r : records) ++counts[of(r)];
    return std::max_element(counts.begin(), counts.end(),
                            [](auto const& a, auto const& b) { return a.second < b.second; })
        ->first;
  };
  auto const alpha = [&](record_info const& r) {
    auto const rank = static_cast<double>(r.rank);
    return alpha_of(r.scale, c.rank_stable ? std::sqrt(rank) : rank);
  };
  c.r = commonest([](record_info const& r) { return r.rank; });
  c.alpha = commonest(alpha);
  std::vector<std::string> modules;
  for (auto const& r : records) modules.push_back(r.module);
  for (auto const& r : records) {
    if (r.rank != c.r) c.rank_pattern.emplace_back(pattern_key(r.module, modules), r.rank);
    if (alpha(r) != c.alpha) c.alpha_pattern.emplace_back(pattern_key(r.module, modules), alpha(r));
  }
}

/// AdaLoRA's form of the same: the largest rank as the one before pruning, and one alpha for all.
/// errors  value_error if scales differ, or are not above 0 (for which PEFT takes another)
inline void set_adalora_scales(peft_config& c, std::vector<record_info> const& records) {
  double const s = records[0].scale;
  for (auto const& r : records) {
    if (r.scale != s || s <= 0)
      raise<value_error>("save_peft(" + r.module + ")", "scale", std::to_string(r.scale),
                         "above 0 and the same for all layers, as AdaLoRA has it; see without_e");
    c.r = std::max(c.r, r.rank);
  }
  for (auto const& r : records)
    if (r.rank != c.r) c.kept_ranks[r.module] = r.rank;
  c.alpha = alpha_of(s, static_cast<double>(c.r) + adalora_scaling::epsilon);
}

/// Last words of the modules, if they mean just these among all modules that the base's names speak of; else whole
/// names, if they do (PEFT takes those, too, for the ends of longer ones); else an expression.
template <class Options>
module_selection targets_of(std::vector<record_info> const& records, Options const& options,
                            safetensors_model const* base) {
  std::set<std::string> whole, words;
  std::map<std::string, std::string> renamed;  // in the base -> module
  for (auto const& [module, place] : options.places) renamed[place.weight] = module;
  for (auto const& r : records) {
    whole.insert(r.module);
    words.insert(r.module.substr(r.module.rfind('.') + 1));
  }
  auto const selects = [](std::set<std::string> const& names, std::string_view name) {
    while (true) {  // itself, or what follows one of its dots
      if (names.contains(std::string(name))) return true;
      auto const dot = name.find('.');
      if (dot == name.npos) return false;
      name.remove_prefix(dot + 1);
    }
  };
  auto const exact = [&](std::set<std::string> const& names) {
    for (auto const& name : base->names())
      for (auto dot = name.find('.'); dot != name.npos; dot = name.find('.', dot + 1)) {
        auto const known = renamed.find(name.substr(0, dot) + ".weight");
        auto const module = known == renamed.end() ? options.module_prefix + name.substr(0, dot) : known->second;
        if (selects(names, module) && !whole.contains(module)) return false;
      }
    return true;
  };
  auto const of = [](std::set<std::string> const& names) {
    return module_selection{{names.begin(), names.end()}, {}, {}, {}, {}, {}};
  };
  if (!base || exact(whole)) return of(base && exact(words) ? words : whole);
  std::string expression;
  for (auto const& module : whole) expression += (expression.empty() ? "" : "|") + escaped(module);
  return {{}, expression, {}, {}, {}, {}};
}

}  // namespace loraga::format
