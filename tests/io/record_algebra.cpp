#include <loraga/io/record_algebra.hpp>

#include "../support/catch.hpp"
#include "records.hpp"

using namespace loraga;

TEST_CASE("wide, folded and combined records do the same to W", "[io]") {
  auto const r = test::random_record("m", 7, 5, 2, 3, 1);
  auto const wide = widened(r);
  CHECK(wide.rank() == 5);
  CHECK(!wide.anchored());
  CHECK(test::distance(test::change_of(wide), test::change_of(r)) < 1e-6);
  auto const flat = folded(wide, 8);
  CHECK(flat.rank() == 8);
  CHECK(flat.scale == 1);
  CHECK(test::distance(test::change_of(flat), test::change_of(r)) < 1e-6);
  CHECK_THROWS_AS(folded(wide, 4), value_error);
  CHECK_THROWS_AS(folded(r, 8), state_error);
  auto const start = start_of(r);
  CHECK(test::distance(test::change_of(start) + test::change_of(r),
                       test::change_of({r.module, r.scale, r.a, r.b, {}, {}})) < 1e-6);
  CHECK_THROWS_AS(start_of(wide), state_error);

  auto const q = test::random_record("m", 7, 5, 3, 0, 2), other = test::random_record("n", 4, 4, 1, 0, 3);
  auto const sum = combined({{{r, other}, 0.5}, {{q}, -2}});
  REQUIRE(sum.size() == 2);
  CHECK(sum[0].rank() == 8);
  CHECK(test::distance(test::change_of(sum[0]), 0.5 * test::change_of(r) - 2.0 * test::change_of(q)) < 1e-6);
  CHECK(sum[1].module == "n");
  CHECK_THROWS_AS(combined({{{r}, 1}, {{test::random_record("m", 7, 6, 2, 0, 1)}, 1}}), shape_error);
  CHECK_THROWS_AS(combined({{{r}, std::nan("")}}), value_error);
}

TEST_CASE("E and a magnitude in other forms of a record", "[io]") {
  auto const w = test::random(7, 5, 8);
  auto const e = test::with_e(test::random_record("m", 7, 5, 2, 3, 1));
  auto const wide = widened(e);
  CHECK(wide.e.values == std::vector<float>{0.75f, -0.25f, 1, 1, 1});
  for (auto const& same : {wide, without_e(e), folded(wide, 6), combined({{{e}, 1}})[0]})
    CHECK(test::distance(test::change_of(same), test::change_of(e)) < 1e-6);
  CHECK(!without_e(e).has_e());
  CHECK(without_e(e).anchored());
  CHECK(!start_of(e).has_e());
  auto rounded = e;
  rounded.type = dtype::BF16;
  CHECK(widened(rounded).type == dtype::BF16);
  CHECK(without_e(rounded).type == dtype::F32);

  auto const dora = test::with_magnitude(test::random_record("m", 7, 5, 2, 3, 1));
  CHECK(test::distance(test::merged(w, widened(dora)), test::merged(w, dora)) < 1e-6);
  CHECK(widened(dora).rank() == 5);
  CHECK_THROWS_WITH(folded(widened(dora), 5), Catch::Contains("merge_into_model"));
  CHECK_THROWS_WITH(combined({{{dora}, 1}}), Catch::Contains("combined(m)"));
}

TEST_CASE("what kind of layer it is stays known", "[io]") {
  auto r = test::random_record("m", 7, 6, 2, 1, 1);
  r.layer = {layer_form::convolution, 3, 1};
  for (auto const& same : {widened(r), start_of(r), folded(widened(r), 5), combined({{{r}, 1}, {{r}, 1}})[0]})
    CHECK(same.layer == r.layer);
  auto other = r;
  other.layer = {layer_form::convolution, 1, 3};
  CHECK_THROWS_WITH(combined({{{r}, 1}, {{other}, 1}}), Catch::Contains("1x3"));
}

TEST_CASE("tens of thousands of modules are combined in a moment", "[io]") {
  std::vector<adapter_record> many;
  for (int i = 0; i < 40000; ++i) many.push_back(test::random_record("m." + std::to_string(i), 1, 1, 1, 0, 1));
  CHECK(combined({{many, 1}, {many, 2}}).size() == 40000);
}
