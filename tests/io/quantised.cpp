#include <loraga/io/quantised.hpp>
#include <loraga/io/record_info.hpp>

#include "../support/catch.hpp"
#include "models.hpp"

using namespace loraga;

TEST_CASE("a quantised weight is told by what stands beside it", "[io]") {
  test::folder const folder;
  auto const form = [&](std::string const& part, bool with_weight) {
    std::filesystem::remove(folder / "m");
    test::named_weights w{{part, test::host(1, 1)}, {"b.weight", test::host(2, 2)}};
    if (with_weight) w.push_back({"a.weight", test::host(2, 2)});
    test::write_model(folder / "m", w);
    safetensors_model const m(folder / "m");
    CHECK(quantised_form(m, "b.weight").empty());
    CHECK(quantised_form(m, "c.weight").empty());
    CHECK(quantised_form(m) == quantised_form(m, "a.weight"));
    CHECK_THAT(test::message_of([&] {
                 check_against_base({"a", 1, 2, 2, 1}, m, {"a.weight"}, "here");
               }),
               Catch::Contains("quantised: ") && Catch::Contains("F16"));
    return quantised_form(m, "a.weight");
  };
  CHECK_THAT(form("a.weight.absmax", true), Catch::Contains("4 bit"));
  CHECK_THAT(form("a.SCB", true), Catch::Contains("8 bit"));
  CHECK_THAT(form("a.qweight", false), Catch::Contains("GPTQ"));
  CHECK_THAT(form("a.weight_scale_inv", true), Catch::Contains("FP8"));
  CHECK_THAT(form("a.weight_packed", false), Catch::Contains("compressed"));
  CHECK_THAT(form("a.codes", false), Catch::Contains("AQLM"));
}

TEST_CASE("so is one whose type alone says it", "[io]") {
  test::folder const folder;
  for (auto const type : {dtype::I8, dtype::U8, dtype::F8_E4M3}) {
    safetensors_writer out(folder / "m", {{"a.weight", type, {2, 2}}}, {}, overwrite::yes);
    std::vector<std::byte> const bytes(4);
    out.write("a.weight", std::span(bytes));
    out.commit();
    CHECK(quantised_form(safetensors_model(folder / "m"), "a.weight") == dtype_name(type));
  }
}
