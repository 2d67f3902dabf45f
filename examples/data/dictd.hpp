#pragma once
#include <algorithm>
#include <loraga/io/model.hpp>
#include <map>
#include <set>

namespace data {

using loraga::index_t;

/// A dictionary's entry: what is defined, and the first paragraph of its definition.
struct definition {
  std::string term, text;
};

namespace dictd {

/// A number in dictd's base 64.
/// errors  format_error naming the line
inline std::size_t number(std::string_view digits, std::string const& where) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::size_t n = 0;
  for (char const c : digits) {
    auto const digit = alphabet.find(c);
    if (digit == alphabet.npos || digits.size() > 10)
      loraga::raise<loraga::format_error>(where, "number", "'" + std::string(digits.substr(0, 20)) + "'",
                                          "dictd's base 64");
    n = n * 64 + digit;
  }
  return n;
}

inline std::string trimmed(std::string_view s) {
  auto const first = s.find_first_not_of(" \t\r"), last = s.find_last_not_of(" \t\r");
  return first == s.npos ? "" : std::string(s.substr(first, last - first + 1));
}

/// The first paragraph of an entry's body that says something: lines joined, marks of references ({}) and the category
/// in front (<...>) gone. Sources ([...]) and dates ((...)) that stand alone say nothing.
inline std::string first_paragraph(std::string_view entry) {
  std::string paragraph;
  for (std::size_t at = 0; at <= entry.size();) {
    auto const end = std::min(entry.find('\n', at), entry.size());
    auto const line = trimmed(entry.substr(at, end - at));
    at = end + 1;
    if (!line.empty()) paragraph += (paragraph.empty() ? "" : " ") + line;
    if (!line.empty() && at <= entry.size()) continue;
    std::erase_if(paragraph, [](char c) { return c == '{' || c == '}'; });
    if (paragraph.starts_with('<') && paragraph.find('>') != paragraph.npos)
      paragraph = trimmed(std::string_view(paragraph).substr(paragraph.find('>') + 1));
    bool const aside = (paragraph.starts_with('[') && paragraph.ends_with(']')) ||
                       (paragraph.starts_with('(') && paragraph.ends_with(')'));
    if (!paragraph.empty() && !aside) return paragraph;
    paragraph.clear();
  }
  return {};
}

}  // namespace dictd

/// The entries of a dictd dictionary, in the order of the text: PATH.index and, unpacked, PATH.dict. Entries that only
/// refer to others are left out; one text under several headwords counts once, under its own first line.
/// errors  file_error; format_error naming line and file where it is no dictd dictionary
inline std::vector<definition> read_dictd(std::filesystem::path const& path) {
  auto const index_path = std::filesystem::path(path).replace_extension(".index");
  auto const dict_path = std::filesystem::path(path).replace_extension(".dict");
  auto const index = loraga::read_text(index_path), dict = loraga::read_text(dict_path);
  if (dict.starts_with("\x1f\x8b"))
    loraga::raise<loraga::format_error>(dict_path.string(), "file", "still packed", "the unpacked .dict; gunzip it");
  std::map<std::size_t, std::size_t> places;
  index_t line_number = 0;
  for (std::size_t at = 0; at < index.size();) {
    auto const end = std::min(index.find('\n', at), index.size());
    auto const line = std::string_view(index).substr(at, end - at);
    auto const where = index_path.string() + ": line " + std::to_string(++line_number);
    auto const first = line.find('\t'), second = line.find('\t', first + 1);
    if (first == line.npos || second == line.npos)
      loraga::raise<loraga::format_error>(where, "line", "without two tabs",
                                          "headword, place and size, as dictd has it");
    auto const begin = dictd::number(line.substr(first + 1, second - first - 1), where);
    auto const size = dictd::number(line.substr(second + 1), where);
    if (begin > dict.size() || size > dict.size() - begin)
      loraga::raise<loraga::format_error>(
          where, "entry", "beyond the " + std::to_string(dict.size()) + " bytes of " + dict_path.string(),
          "within it; the two files are not of one dictionary");
    if (!line.starts_with("00-database")) places[begin] = size;
    at = end + 1;
  }
  std::vector<definition> all;
  for (auto const& [begin, size] : places) {
    auto const entry = std::string_view(dict).substr(begin, size);
    auto const first = entry.find_first_not_of('\n');
    if (first == entry.npos) continue;
    auto const end = std::min(entry.find('\n', first), entry.size());
    definition d{dictd::trimmed(entry.substr(first, end - first)), dictd::first_paragraph(entry.substr(end))};
    bool const refers = entry.substr(end).find_first_not_of(" \n") != entry.npos &&
                        dictd::trimmed(entry.substr(entry.find_first_not_of(" \n", end))).starts_with('{') &&
                        d.text.size() < 80;
    if (!d.term.empty() && d.text.size() >= 40 && !refers) all.push_back(std::move(d));
  }
  if (all.empty()) loraga::raise<loraga::format_error>(path.string(), "dictionary", "no definitions", "some");
  return all;
}

}  // namespace data
