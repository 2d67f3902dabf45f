#pragma once
#include <loraga/core/error.hpp>
#include <nlohmann/json.hpp>
#include <set>

namespace loraga {

/// JSON, strictly: keys that appear twice are an error (the parser alone would keep the last), as are nesting deeper
/// than `deepest`, a byte order mark and NUL bytes (at which the parser alone would stop and ignore the rest).
/// Json is nlohmann::json, or nlohmann::ordered_json where the order of keys counts.
/// errors  format_error naming `where`
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, std::string const& where, int deepest = 16) {
  if (text.find('\0') != text.npos) raise<format_error>(where, "JSON", "text with a NUL byte", "JSON");
  if (text.starts_with("\xEF\xBB\xBF")) raise<format_error>(where, "JSON", "text with a byte order mark", "JSON");
  std::vector<std::set<std::string>> keys;
  auto const look = [&](int depth, typename Json::parse_event_t event, Json& parsed) {
    if (depth > deepest)
      raise<format_error>(where, "JSON", "nested deeply", "at most " + std::to_string(deepest) + " levels");
    if (event == Json::parse_event_t::object_start) keys.emplace_back();
    if (event == Json::parse_event_t::object_end) keys.pop_back();
    if (event == Json::parse_event_t::key && !keys.back().insert(parsed.template get<std::string>()).second)
      raise<format_error>(where, "key", parsed.dump() + ", for the second time", "each key once");
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), look);
  } catch (nlohmann::json::exception const& e) {
    throw format_error(where + ": JSON is broken, expected valid JSON in UTF-8 (" + e.what() + ")");
  }
}

/// object[key] as a T, or `otherwise` where it is missing or null.
/// errors  format_error naming `where` and the key if it has another type
template <class T, class Json>
T json_field(Json const& object, char const* key, T const& otherwise, std::string const& where) {
  auto const found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  auto const require = [&](bool fits, char const* expected) {
    if (!fits) raise<format_error>(where, key, found->dump().substr(0, 80), expected);
  };
  if constexpr (std::is_same_v<T, bool>) require(found->is_boolean(), "true or false");
  else if constexpr (std::is_same_v<T, std::string>) require(found->is_string(), "a string");
  else if constexpr (std::is_integral_v<T>) require(found->is_number_integer(), "a whole number");
  else require(found->is_number(), "a number");
  return found->template get<T>();
}

}  // namespace loraga
