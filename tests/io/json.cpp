#include <loraga/io/json.hpp>

#include "../support/catch.hpp"

using namespace loraga;

TEST_CASE("JSON that other readers would take in part is refused", "[io]") {
  CHECK(parse_json(" {\"a\": [1, {\"b\": null}]} \n", "test")["a"][0] == 1);
  for (std::string const bad :
       {"", "{", "{\"a\":1,\"a\":2}", "{\"o\":{\"a\":1,\"a\":1}}", "\xEF\xBB\xBF{}", "{\"\xff\":1}", "{} {}"}) {
    INFO(bad);
    CHECK_THROWS_AS(parse_json(bad, "test"), format_error);
  }
  CHECK_THROWS_AS(parse_json(std::string_view("{}\0{", 4), "test"), format_error);
  CHECK_NOTHROW(parse_json("{\"a\":1,\"o\":{\"a\":2}}", "test"));  // the same key elsewhere
  CHECK_THROWS_AS(parse_json("[[[[[1]]]]]", "test", 3), format_error);
  CHECK_NOTHROW(parse_json("[[[1]]]", "test", 3));
  CHECK_THROWS_AS(parse_json(std::string(1 << 20, '['), "test"), format_error);
}

TEST_CASE("fields have types", "[io]") {
  auto const j = parse_json(R"({"n": 3, "x": 2.5, "s": "a", "b": true, "z": null})", "test");
  CHECK(json_field(j, "n", 1, "test") == 3);
  CHECK(json_field(j, "x", 1.0, "test") == 2.5);
  CHECK(json_field(j, "n", 1.0, "test") == 3);
  CHECK(json_field(j, "z", 7, "test") == 7);
  CHECK(json_field(j, "missing", std::string("d"), "test") == "d");
  CHECK_THROWS_AS(json_field(j, "x", 1, "test"), format_error);
  CHECK_THROWS_AS(json_field(j, "s", true, "test"), format_error);
  CHECK_THROWS_AS(json_field(j, "b", std::string(), "test"), format_error);
  CHECK_THROWS_WITH(json_field(j, "s", 1.0, "here"), Catch::Contains("here: s is \"a\", expected a number"));
}
