#include <loraga/io/pattern_table.hpp>

#include "../support/catch.hpp"

using namespace loraga;

namespace {
using list = std::vector<std::pair<std::string, index_t>>;

/// Trying one pattern after the other, as PEFT does.
index_t first_fit(list const& patterns, std::string const& module) {
  for (auto const& [text, value] : patterns)
    if (module_pattern(text, "test").fits_end(module)) return value;
  return 0;
}
}  // namespace

TEST_CASE("the first pattern that fits a module counts, however they are found", "[io]") {
  list const patterns{{"b.q", 1}, {"^a\\.b\\.q", 2}, {"q", 3}, {"a.*k", 4}, {"k", 5}, {"^x-1\\.k", 6}, {"b.q", 7}};
  pattern_table<index_t> const table(patterns, "test");
  for (auto const* module : {"b.q", "a.b.q", "bxq", "c.q", "q", "a.k", "k", "x-1.k", "b.k", "v", "y.x-1.k"})
    CHECK(table.find(module, 0) == first_fit(patterns, module));
}

TEST_CASE("a long list of names is looked up by name", "[io]") {
  list patterns;
  for (index_t i = 0; i < 40000; ++i) patterns.emplace_back("^layers\\." + std::to_string(i) + "\\.q", i);
  pattern_table<index_t> const exact(patterns, "test");
  for (auto& [text, value] : patterns) text = "layers." + std::to_string(value) + ".q";
  pattern_table<index_t> const names(patterns, "test");  // 40,000 expressions compiled would take minutes
  for (index_t const i : {0, 7, 123, 39999}) {
    auto const module = "layers." + std::to_string(i) + ".q";
    CHECK(exact.find(module, -1) == i);
    CHECK(names.find(module, -1) == i);
    CHECK(exact.find("model." + module, -1) == -1);  // ^ is the name's beginning
    CHECK(names.find("model." + module, -1) == i);
  }
  CHECK(names.find("layers.40000.q", -1) == -1);
}
