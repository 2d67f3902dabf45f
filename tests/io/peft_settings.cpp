#include <loraga/io/peft_settings.hpp>

#include "../support/catch.hpp"

using namespace loraga;

namespace {

record_info layer_of(std::string module, double scale, index_t rank) {
  record_info r;
  r.module = std::move(module);
  r.scale = scale;
  r.out = r.in = 64;
  r.rank = rank;
  return r;
}

}  // namespace

TEST_CASE("alpha gives s back, to the last bit where a number does", "[io]") {
  for (double const divisor : {8.0, std::sqrt(8.0), 12 + adalora_scaling::epsilon})
    for (double const s : {2.0, 0.1, 1.0 / 3}) CHECK(format::alpha_of(s, divisor) / divisor == s);
  double const s = 5.656854249492381, back = format::alpha_of(s, std::sqrt(8.0)) / std::sqrt(8.0);
  CHECK((back == std::nextafter(s, 0) || back == std::nextafter(s, 9)));  // no double divided by sqrt(8) is s
  CHECK(format::alpha_of(2, 8) == 16);
}

TEST_CASE("r and alpha are the commonest, exceptions are patterns that fit one module", "[io]") {
  peft_config c;
  format::set_scales(c, {layer_of("a.q", 2, 8), layer_of("b.q", 2, 8), layer_of("x.b.q", 4, 4), layer_of("c.q", 1, 8)});
  CHECK(c.r == 8);
  CHECK(c.alpha == 16);
  REQUIRE(c.rank_pattern.size() == 1);
  CHECK(c.rank_pattern[0] == std::pair<std::string, index_t>{"x.b.q", 4});
  REQUIRE(c.alpha_pattern.size() == 1);
  CHECK(c.alpha_pattern[0] == std::pair<std::string, double>{"c.q", 8});
  CHECK(format::pattern_key("b.q", {"a.q", "b.q", "x.b.q"}) == "^b\\.q");  // or it would fit x.b.q as well
}

TEST_CASE("AdaLoRA's one alpha", "[io]") {
  peft_config c;
  c.r = 0;
  format::set_adalora_scales(c, {layer_of("a", 2, 12), layer_of("b", 2, 5)});
  CHECK(c.r == 12);
  CHECK(c.alpha / (12 + adalora_scaling::epsilon) == 2);
  CHECK(c.kept_ranks.at("b") == 5);
  CHECK_THROWS_AS(format::set_adalora_scales(c, {layer_of("a", 2, 12), layer_of("b", 1, 12)}), value_error);
}
