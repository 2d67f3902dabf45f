#pragma once
#include <CLI/CLI.hpp>
#include <loraga/version.hpp>

// --help as a manual page.

namespace tools {

struct manual_section {
  std::string title, text;  ///< text is laid out already
};
struct manual {
  std::string name, summary, synopsis, description;
  std::vector<manual_section> more = {};  ///< after the options

  std::string version() const {
    return name + " (loraga) " + std::to_string(LORAGA_VERSION_MAJOR) + "." + std::to_string(LORAGA_VERSION_MINOR) +
           "." + std::to_string(LORAGA_VERSION_PATCH);
  }
};

/// Words of a text in lines of 80 characters, indented.
inline std::string wrapped(std::string const& text, std::size_t indent) {
  std::string lines, line;
  std::istringstream words(text);
  for (std::string word; words >> word; line += (line.empty() ? "" : " ") + word)
    if (!line.empty() && indent + line.size() + 1 + word.size() > 80) {
      lines += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
  return lines + std::string(indent, ' ') + line + "\n";
}
inline std::string indented(std::string const& text, std::size_t indent) {
  std::string all, line;
  std::istringstream lines(text);
  while (std::getline(lines, line)) all += line.empty() ? "\n" : std::string(indent, ' ') + line + "\n";
  return all;
}

class manual_formatter : public CLI::Formatter {
  manual page_;

  static std::string replaced(std::string text, std::string const& from, std::string const& to) {
    for (auto at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
    return text;
  }
  /// What an option takes: one of a few words, a number, or what its author says.
  static std::string value_of(CLI::Option const* o) {
    if (o->get_type_size() == 0) return "";
    auto const type = o->get_type_name();
    if (auto const open = type.find('{'); open != type.npos)
      return replaced(type.substr(open + 1, type.size() - open - 2), ",", "|");
    auto const plain = type.substr(0, type.find(':'));
    return plain == "FLOAT" || plain == "UINT" || plain == "INT" ? "NUMBER" : plain == "TEXT" ? "NAME" : plain;
  }
  static std::string option(CLI::Option const* o, std::size_t indent) {
    auto const name = replaced(replaced(o->get_name(false, true), "{false}", ""), ",", ", ");
    auto value = value_of(o);
    std::string about = o->get_description();
    if (indent + name.size() + 1 + value.size() > 80) {
      about += ": " + replaced(value, "|", ", ");
      value = "NAME";
    }
    if (o->get_required()) about += " (required)";
    if (!o->get_default_str().empty()) about += " (default: " + o->get_default_str() + ")";
    return std::string(indent, ' ') + name + (value.empty() ? "" : " " + value) + "\n" + wrapped(about, indent + 4);
  }
  static std::string options(CLI::App const* app, std::size_t indent) {
    std::string text;
    for (auto const& group : app->get_groups()) {
      auto const all = app->get_options([&](CLI::Option const* o) { return o->get_group() == group; });
      if (group.empty() || all.empty()) continue;
      bool const named = group != "Options";
      if (named) text += std::string(indent, ' ') + group + "\n";
      for (auto const* o : all)
        if (indent < 6 || o != app->get_help_ptr()) text += option(o, indent + (named ? 2 : 0));
    }
    return text;
  }

 public:
  explicit manual_formatter(manual page) : page_(std::move(page)) {}

  std::string make_help(CLI::App const* app, std::string, CLI::AppFormatMode) const override {
    if (app->get_parent())
      return page_.name + " " + app->get_name() + " - " + app->get_description() + "\n\n" + options(app, 2);
    std::string text = "NAME\n  " + page_.name + " - " + page_.summary + "\n\nSYNOPSIS\n" +
                       indented(page_.synopsis, 2) + "\nDESCRIPTION\n" + indented(page_.description, 2) +
                       "\nOPTIONS\n" + options(app, 2);
    auto const commands = app->get_subcommands([](CLI::App const*) { return true; });
    if (!commands.empty()) text += "\nCOMMANDS\n";
    for (auto const* c : commands)
      text += "  " + c->get_name() + "\n" + wrapped(c->get_description(), 6) + options(c, 6);
    for (auto const& section : page_.more) text += "\n" + section.title + "\n" + indented(section.text, 2);
    return text;
  }
};

/// Gives an app its page, --help and --version.
inline void set_manual(CLI::App& app, manual const& page) {
  app.set_help_flag("-h,--help", "this page");
  app.set_version_flag("--version", page.version(), "the version");
  app.formatter(std::make_shared<manual_formatter>(page));
}

inline char const* const exit_status =
    "0    done\n"
    "1    failed, for a reason that is told\n"
    "2    the command line is wrong\n"
    "129, 130, 143    ended by a signal, after unfinished files were taken away";

}  // namespace tools
