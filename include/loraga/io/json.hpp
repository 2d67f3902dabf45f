#pragma once
#include <loraga/core/error.hpp>
#include <nlohmann/json.hpp>
#include <unordered_set>

namespace loraga {

namespace format {

/// Builds a Json from the parser's events, in time linear in its size. (The parser's own way with a callback looks
/// through a container again whenever one within it ends.)
template <class Json>
class json_builder {
  static constexpr bool ordered = requires(typename Json::object_t & o) { o.emplace_back(std::string(), Json()); };
  struct nothing {};
  struct container {
    Json* json;
    std::conditional_t<ordered, std::unordered_set<std::string>, nothing> keys;  // whose own search is linear
  };
  std::string const& where_;
  int deepest_;
  Json root_;
  std::vector<container> open_;  // their addresses stay: what is in one only grows when those within it are closed
  std::string key_;

  void check_depth() const {
    if (static_cast<int>(open_.size()) > deepest_)
      raise<format_error>(where_, "JSON", "nested deeply", "at most " + std::to_string(deepest_) + " levels");
  }
  Json* add(Json value) {
    check_depth();
    if (open_.empty()) return root_ = std::move(value), &root_;
    Json& into = *open_.back().json;
    if (into.is_array()) return into.push_back(std::move(value)), &into.back();
    auto& object = into.template get_ref<typename Json::object_t&>();
    if constexpr (ordered) return &object.emplace_back(std::move(key_), std::move(value)).second;
    else return &object.emplace(std::move(key_), std::move(value)).first->second;
  }
  bool open(Json value) {
    open_.push_back({add(std::move(value)), {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

 public:
  json_builder(std::string const& where, int deepest) : where_(where), deepest_(deepest) {}
  Json take() { return std::move(root_); }

  bool null() { return add(nullptr), true; }
  bool boolean(bool x) { return add(x), true; }
  bool number_integer(typename Json::number_integer_t x) { return add(x), true; }
  bool number_unsigned(typename Json::number_unsigned_t x) { return add(x), true; }
  bool number_float(typename Json::number_float_t x, std::string const&) { return add(x), true; }
  bool string(std::string& x) { return add(std::move(x)), true; }
  bool binary(typename Json::binary_t&) { return false; }
  bool start_object(std::size_t) { return open(Json::object()); }
  bool end_object() { return close(); }
  bool start_array(std::size_t) { return open(Json::array()); }
  bool end_array() { return close(); }
  bool key(std::string& name) {
    check_depth();
    auto& [json, keys] = open_.back();
    bool fresh;
    if constexpr (ordered) fresh = keys.insert(name).second;
    else fresh = !json->contains(name);
    if (!fresh) raise<format_error>(where_, "key", Json(name).dump() + ", for the second time", "each key once");
    key_ = std::move(name);
    return true;
  }
  template <class E>
  bool parse_error(std::size_t, std::string const&, E const& e) {
    throw format_error(where_ + ": JSON is broken, expected valid JSON in UTF-8 (" + e.what() + ")");
  }
};

}  // namespace format

/// Reads JSON strictly. Keys that appear twice are an error, of which the parser alone would keep the last. So are
/// nesting deeper than `deepest`, a byte order mark, and NUL bytes, at which the parser alone would stop. Json is
/// nlohmann::json, or nlohmann::ordered_json where the order of keys counts.
/// errors  format_error naming `where`
/// cost    linear in the text, whatever is in it
template <class Json = nlohmann::json>
Json parse_json(std::string_view text, std::string const& where, int deepest = 16) {
  if (text.find('\0') != text.npos) raise<format_error>(where, "JSON", "text with a NUL byte", "JSON");
  if (text.starts_with("\xEF\xBB\xBF")) raise<format_error>(where, "JSON", "text with a byte order mark", "JSON");
  format::json_builder<Json> builder(where, deepest);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
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
