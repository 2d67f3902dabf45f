#pragma once
#include <cstdio>
#include <loraga/core/error.hpp>
#include <vector>

#include "spec.hpp"

// All that decides a run's numbers, one `name = value` per line: a checkpoint has it, so that nothing goes on as
// something else.

namespace training {

template <class T>
std::string configuration_line(std::string const& name, T const& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    char number[32];
    std::snprintf(number, sizeof number, "%.17g", static_cast<double>(value));
    return name + " = " + number + '\n';
  } else {
    return name + " = " + value + '\n';
  }
}

inline std::string configuration_text(train_spec const& s) {
  std::string text;
  for_each_field(s, [&](field const& f, auto const& value) {
    if (f.is_written) text += configuration_line(f.name, value);
  });
  return text;
}

/// errors  state_error naming the first line that differs
inline void require_same_configuration(std::string const& theirs, std::string const& ours, std::string const& path) {
  if (theirs == ours) return;
  auto const lines = [](std::string const& text) {
    std::vector<std::string> all;
    for (std::size_t at = 0; at < text.size();) {
      auto const end = std::min(text.find('\n', at), text.size());
      all.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    return all;
  };
  auto const a = lines(theirs), b = lines(ours);
  std::size_t i = 0;
  while (i + 1 < a.size() && i + 1 < b.size() && a[i] == b[i]) ++i;
  loraga::raise<loraga::state_error>("trainer::run", "checkpoint " + path,
                                     "of another configuration (" + (a.empty() ? "" : a[i]) + ")",
                                     b[i] + "; delete it or choose another folder");
}

}  // namespace training
