#include <loraga/io/peft.hpp>

#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "records.hpp"

using namespace loraga;

TEST_CASE("records are written one by one, in any order, as if all at once", "[io]") {
  test::folder const folder;
  auto const r = test::random_record("m.q", 6, 5, 2, 2, 1), p = test::random_record("m.v", 4, 5, 3, 0, 2);
  for (auto const profile : {peft_profile::faithful, peft_profile::portable}) {
    peft_options const options{.profile = profile, .base = peft_base::original, .may_replace = overwrite::yes};
    save_peft(folder / "whole", {r, p}, options, unchecked_names{});
    peft_writer writer(folder / "parts", {info_of(r), info_of(p)}, options, unchecked_names{});
    writer.write(p);
    writer.write(r);
    writer.commit();
    for (std::string const name : {"adapter_model.safetensors", "adapter_config.json"})
      CHECK(test::read_file(folder / "whole" / name) == test::read_file(folder / "parts" / name));
  }
}

TEST_CASE("a record that was not announced is refused, and an adapter with one missing never appears", "[io]") {
  test::folder const folder;
  auto const r = test::random_record("m.q", 6, 5, 2, 0, 1), p = test::random_record("m.v", 4, 5, 3, 0, 2);
  {
    peft_writer writer(folder / "a", {info_of(r), info_of(p)}, {}, unchecked_names{});
    writer.write(r);
    CHECK_THROWS_AS(writer.write(r), state_error);
    CHECK_THROWS_AS(writer.write(test::random_record("m.k", 6, 5, 2, 0, 1)), value_error);
    CHECK_THROWS_AS(writer.write(test::random_record("m.v", 4, 5, 2, 0, 1)), value_error);
    auto strong = p;
    strong.scale = 2;
    CHECK_THROWS_WITH(writer.write(strong), Catch::Contains("save_peft(m.v): record is not as announced"));
    CHECK_THROWS_AS(writer.commit(), state_error);
  }
  CHECK(std::filesystem::is_empty(folder / "a"));
}
