#include <loraga/io/adapter_record.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "records.hpp"

using namespace loraga;

namespace {

template <class T>
void check_round_trip(dtype type) {
  auto be = test::make_backend();
  lora<T, test::backend> ad(be, 7, 5, 2, rank_stable_scaling{});
  auto const a = test::random(2, 5, 1), b = test::random(7, 2, 2);
  test::upload_to<T>(be, a, ad.a());
  test::upload_to<T>(be, b, ad.b());
  auto const r = take_record(be, ad, "m");
  CHECK(r.type == type);
  CHECK(r.module == "m");
  CHECK(r.scale == ad.scale());
  CHECK(!r.anchored());
  CHECK(test::distance(test::host_of(r.a), a) <= (type == dtype::F32 ? 1e-7 : 4e-3));
  lora<T, test::backend> other(be, 7, 5, 2, constant_scaling{r.scale});
  put_record(be, r, other);
  CHECK(test::distance(test::download(be, other.b()), test::download(be, ad.b())) <=
        (std::is_same_v<T, double> ? 1e-7 : 0.0));
  CHECK(test::distance(test::download(be, other.a()), test::download(be, ad.a())) <=
        (std::is_same_v<T, double> ? 1e-7 : 0.0));
}

}  // namespace

TEST_CASE("an adapter becomes a record and a record an adapter", "[io]") {
  check_round_trip<float>(dtype::F32);
  check_round_trip<double>(dtype::F32);
  check_round_trip<bf16>(dtype::BF16);
  check_round_trip<loraga::half>(dtype::F16);
}

TEST_CASE("the start of an anchored adapter is kept, in place and frozen", "[io]") {
  auto be = test::make_backend();
  auto const w = test::random(8, 6, 3), g = test::random(8, 6, 4);
  dense_gradient<test::backend> gradient(be, 8, 6);
  gradient.add(be, test::upload<float>(be, g).view());
  for (bool const in_place : {true, false}) {
    auto weight = test::upload<float>(be, w);
    lora<float, test::backend> ad(be, 8, 6, 2, rank_stable_scaling{});
    if (in_place) initialise(be, ad, lora_ga_init{}, weight.view(), gram{}, gradient, in_place_anchor{});
    else initialise(be, ad, lora_ga_init{}, weight.view(), gram{}, gradient, frozen_pair_anchor{});
    CHECK(ad.anchored_in_place() == in_place);
    CHECK(ad.paired() == !in_place);
    auto const start = take_record(be, ad, "m");
    REQUIRE(start.anchored());
    CHECK(test::largest(test::change_of(start)) == 0);
    CHECK(test::largest(test::host_of(start.b)) > 0.1);
    test::upload_to<float>(be, test::random(8, 2, 5), ad.b());
    auto const moved = take_record(be, ad, "m");
    // relative to the W there was, whatever became of it
    auto now = test::download(be, weight.view());
    matrix<float, test::backend> merged(be, 8, 6);
    be.copy(weight.view(), merged.view());
    ad.add_change(be, merged.view());
    CHECK(test::distance(test::download(be, merged.view()), w + test::change_of(moved)) < 1e-5);
    CHECK_THROWS_AS(put_record(be, moved, ad), state_error);
  }
}

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

TEST_CASE("records that do not fit are refused by name", "[io]") {
  auto be = test::make_backend();
  auto const good = test::random_record("m", 7, 5, 2, 0, 1);
  CHECK_NOTHROW(check_record(good, "test"));
  auto bad = good;
  bad.b = {7, 3};
  CHECK_THROWS_WITH(check_record(bad, "test"), Catch::Contains("test(m): B is 7x3, expected 7x2"));
  bad = good;
  bad.a.values[3] = std::nanf("");
  CHECK_THROWS_AS(check_record(bad, "test"), numeric_error);
  bad = good;
  bad.a.values.pop_back();
  CHECK_THROWS_AS(check_record(bad, "test"), shape_error);
  bad = good;
  bad.start_a = {1, 5};
  CHECK_THROWS_AS(check_record(bad, "test"), shape_error);
  bad = good;
  bad.module.clear();
  CHECK_THROWS_AS(check_record(bad, "test"), value_error);

  lora<float, test::backend> ad(be, 7, 5, 2, constant_scaling{1.5}), scaled(be, 7, 5, 2, constant_scaling{1.4}),
      large(be, 7, 6, 2, constant_scaling{1.5});
  CHECK_THROWS_WITH(put_record(be, good, scaled), Catch::Contains("scale"));
  CHECK_THROWS_AS(put_record(be, good, large), shape_error);
  put_record(be, good, ad);
  auto w = test::upload<float>(be, test::random(7, 5, 1));
  ad.merge(be, w.view());
  CHECK_THROWS_AS(take_record(be, ad, "m"), state_error);
  CHECK_THROWS_AS(put_record(be, good, ad), state_error);
}
