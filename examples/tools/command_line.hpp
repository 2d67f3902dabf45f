#pragma once
#include <CLI/CLI.hpp>
#include <cmath>
#include <iostream>
#include <loraga/io/module_match.hpp>

#include "progress.hpp"

namespace tools {

/// An option that takes one of a few words.
template <class T>
CLI::Option* add_choice(CLI::App& app, std::string const& name, T& value,
                        std::vector<std::pair<std::string, T>> const& choices, std::string const& help) {
  std::vector<std::string> words;
  for (auto const& [word, meaning] : choices) words.push_back(word);
  auto const set = [&value, choices](std::string const& word) {
    for (auto const& [known, meaning] : choices)
      if (known == word) value = meaning;
  };
  auto* const option = app.add_option_function<std::string>(name, set, help)->check(CLI::IsMember(words));
  for (auto const& [word, meaning] : choices)
    if (meaning == value) option->default_str(word);
  return option;
}

/// --rename OLD=NEW ..., for leading words of names; either may be empty.
inline CLI::Option* add_renames(CLI::App& app, std::vector<loraga::name_change>& renames, std::string const& whose) {
  auto const set = [&renames](std::vector<std::string> const& words) {
    for (auto const& word : words) {
      auto const at = word.find('=');
      if (at == word.npos || word == "=") throw CLI::ValidationError("--rename", "'" + word + "' is not OLD=NEW");
      renames.push_back({word.substr(0, at), word.substr(at + 1)});
    }
  };
  return app
      .add_option_function<std::vector<std::string>>("--rename", set,
                                                     "for leading words " + whose + "; the first that fits counts")
      ->type_name("OLD=NEW...");
}

inline CLI::Validator positive_number() {
  return {[](std::string& text) {
            char* end = nullptr;
            double const x = std::strtod(text.c_str(), &end);
            return *end == 0 && std::isfinite(x) && x > 0 ? std::string() : text + " is not a positive finite number";
          },
          "POSITIVE"};
}

/// Parses, or ends the program: with 0 after --help and --version, with 2 where the command line is wrong.
inline void parse_or_exit(CLI::App& app, int argc, char const* const* argv) {
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& end) {
    std::exit(app.exit(end) == 0 ? 0 : 2);
  }
}

/// work(), with what it throws as a message and an exit status.
template <class F>
int run_main(char const* program, F&& work) try {
  work();
  return std::cout.flush() ? 0 : 1;
} catch (interrupted const& end) {
  std::cerr << program << ": " << end.what() << '\n';
  return 128 + signal_seen;
} catch (loraga::file_error const& failure) {
  std::cerr << program << ": " << failure.what() << (failure.code == EEXIST ? "; --overwrite replaces it" : "") << '\n';
  return 1;
} catch (std::exception const& failure) {
  std::cerr << program << ": " << failure.what() << '\n';
  return 1;
}

}  // namespace tools
