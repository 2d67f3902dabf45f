#include <loraga/adapter/adalora.hpp>
#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/lora_sb.hpp>
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
  CHECK_THROWS_AS(take_record(be, ad, "m"), state_error);  // without a start
  ad.values_changed(be);
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
  check_round_trip<fp16>(dtype::F16);
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

TEST_CASE("a DoRA's magnitude and AdaLoRA's E go along", "[io]") {
  auto be = test::make_backend();
  auto const w = test::random(8, 6, 3);
  auto weight = test::upload<float>(be, w);
  auto const merged_by = [&](auto const& adapter) {
    matrix<float, test::backend> sum(be, 8, 6);
    be.copy(weight.view(), sum.view());
    adapter.add_change(be, sum.view());
    return test::download(be, sum.view());
  };
  auto const plain = test::random_record("m", 8, 6, 3, 0, 4);
  auto const with_g = test::with_magnitude(plain), with_e = test::with_e(plain);

  dora<float, test::backend> d(be, 8, 6, 3, constant_scaling{plain.scale}), other_d(be, 8, 6, 3, constant_scaling{1.5});
  initialise(be, d, kaiming_init{});
  CHECK_THROWS_WITH(take_record(be, d, "m"), Catch::Contains("prepare"));
  put_record(be, with_g, d);
  CHECK(test::distance(merged_by(d), test::merged(w, with_g)) < 1e-5);
  auto const from_d = take_record(be, d, "m");
  CHECK(from_d.magnitude.values == with_g.magnitude.values);
  CHECK(from_d.a.values == with_g.a.values);
  put_record(be, from_d, other_d);
  CHECK(test::distance(merged_by(other_d), merged_by(d)) == 0);
  put_record(be, plain, d);  // its rows keep the lengths they have
  d.prepare(be, weight.view());
  CHECK(test::distance(merged_by(d), w + test::change_of(plain)) < 1e-5);

  adalora<float, test::backend> a(be, 8, 6, 3, constant_scaling{plain.scale});
  put_record(be, with_e, a);
  CHECK(test::distance(merged_by(a), w + test::change_of(with_e)) < 1e-5);
  auto const from_a = take_record(be, a, "m");
  CHECK(from_a.e.values == with_e.e.values);
  CHECK(from_a.a.values == with_e.a.values);
  CHECK(from_a.b.values == with_e.b.values);
  put_record(be, plain, a);
  CHECK(test::distance(merged_by(a), w + test::change_of(plain)) < 1e-5);
  // anchored: the start has E folded in
  a.freeze_start(be, test::upload<float>(be, test::random(3, 6, 5)).view(),
                 test::upload<float>(be, test::random(8, 3, 6)).view());
  a.start(be, test::upload<float>(be, test::random(3, 6, 5)).view(),
          test::upload<float>(be, test::random(8, 3, 6)).view());
  CHECK(test::largest(test::change_of(take_record(be, a, "m"))) < 1e-6);
  test::upload_to<float>(be, test::random(3, 1, 7), a.e());
  CHECK(test::distance(merged_by(a), w + test::change_of(take_record(be, a, "m"))) < 1e-5);

  lora<float, test::backend> l(be, 8, 6, 3, constant_scaling{plain.scale});
  CHECK_THROWS_WITH(put_record(be, with_g, l), Catch::Contains("magnitude"));
  CHECK_THROWS_WITH(put_record(be, with_e, l), Catch::Contains("without_e"));
}

TEST_CASE("LoRA-SB's record is a LoRA's, with R folded in; a plain record's lengths become R", "[io]") {
  auto be = test::make_backend();
  lora_sb<bf16, test::backend> ad(be, 8, 6, 3, constant_scaling{1.5});
  auto const start_a = test::upload<bf16>(be, test::random(3, 6, 5)),
             start_b = test::upload<bf16>(be, test::random(8, 3, 6));
  ad.freeze_start(be, start_a.view(), start_b.view());
  ad.start(be, start_a.view(), start_b.view());
  CHECK(test::largest(test::change_of(take_record(be, ad, "m"))) == 0);
  test::upload_to<bf16>(be, test::random(3, 3, 7), ad.r());
  auto const r = take_record(be, ad, "m");
  CHECK(r.type == dtype::BF16);
  CHECK(!r.has_e());
  matrix<float, test::backend> sum(be, 8, 6);
  fill(be, sum.view(), 0);
  ad.add_change(be, sum.view());
  CHECK(test::distance(test::download(be, sum.view()), test::change_of(r)) < 1e-6);
  auto const product = test::download(be, ad.b()) * test::download(be, ad.r());
  CHECK(test::distance(test::host_of(r.b), product) < 4e-3 * test::largest(product));

  auto const plain = test::random_record("m", 8, 6, 3, 0, 4);
  lora_sb<float, test::backend> other(be, 8, 6, 3, constant_scaling{plain.scale});
  put_record(be, plain, other);
  CHECK(test::distance(test::change_of(take_record(be, other, "m")), test::change_of(plain)) < 1e-5);
}

TEST_CASE("records know convolutions and embeddings", "[io]") {
  auto be = test::make_backend();
  convolution_geometry const geometry{2, {3}, {1}};
  using low_rank = lora<float, test::backend>;
  convolution<low_rank, test::backend> conv(geometry, low_rank(be, 4, 6, 2, constant_scaling{1.5}));
  embedding<float, test::backend> words(be, 4, 6, 2, constant_scaling{1.5});
  auto r = test::random_record("m", 4, 6, 2, 0, 1);
  CHECK_THROWS_WITH(put_record(be, r, conv), Catch::Contains("a linear layer, expected a convolution of 3x1"));
  CHECK_THROWS_WITH(put_record(be, r, words), Catch::Contains("a linear layer, expected an embedding"));
  put_record(be, r, conv.adapter());  // a matrix is a matrix
  r.layer = {layer_form::convolution, 3, 1};
  put_record(be, r, conv);
  CHECK(take_record(be, conv, "m").layer == r.layer);
  CHECK(take_record(be, conv, "m").a.values == r.a.values);
  r.layer = {layer_form::embedding};
  put_record(be, r, words);
  CHECK(take_record(be, words, "m").layer == r.layer);
  CHECK(take_record(be, words, "m").b.values == r.b.values);
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
  bad = test::with_e(test::with_magnitude(good));
  CHECK_THROWS_AS(check_record(bad, "test"), value_error);
  bad = test::with_e(good);
  bad.e = {3, 1};
  CHECK_THROWS_WITH(check_record(bad, "test"), Catch::Contains("E is 3x1, expected 2x1"));
  bad = test::with_magnitude(good);
  bad.magnitude.values[1] = std::nanf("");
  CHECK_THROWS_AS(check_record(bad, "test"), numeric_error);
  bad = good;
  bad.layer = {layer_form::convolution, 2, 1};
  CHECK_THROWS_WITH(check_record(bad, "test"), Catch::Contains("divides 5"));
  bad.layer = {layer_form::linear, 5, 1};
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

namespace {

/// An adapter of a user's own: A and B are LoRA's, and B counts twice.
template <class T>
class doubled : public lora_passes<T, test::backend> {
  using base = lora_passes<T, test::backend>;

 public:
  explicit doubled(test::backend& be) : base(be, 7, 5, 2, constant_scaling{1.5}, {}, 0) {}
  using base::start, base::values_changed;
  template <class R>
  void write_record(test::backend& be, R& record) const {
    scratch<test::backend> temporary(be);
    auto const twice = temporary.matrix<T>(7, 2);
    axpby(be, 2.0, this->b(), 0.0, twice);
    record.a(this->a());
    record.b(twice);
  }
  template <class R>
  void read_record(test::backend& be, R const& record) {
    scratch<test::backend> temporary(be);
    auto const once = temporary.matrix<T>(7, 2);
    axpby(be, 0.5, record.b(), 0.0, once);
    this->start(be, record.a(), once);
  }
};

}  // namespace

TEST_CASE("an adapter of one's own is saved and loaded by its own record", "[io]") {
  auto be = test::make_backend();
  doubled<float> ad(be), other(be);
  initialise(be, ad, gaussian_pair_init{}, unanchored{});
  auto const r = take_record(be, ad, "m");
  CHECK(test::distance(test::host_of(r.b), 2.0 * test::download(be, ad.b())) < 1e-6);
  put_record(be, r, other);
  CHECK(test::distance(test::download(be, other.b()), test::download(be, ad.b())) == 0);
  CHECK(test::distance(test::download(be, other.a()), test::download(be, ad.a())) == 0);
  auto with_e = r;
  with_e.e = record_matrix(2, 1);
  CHECK_THROWS_AS(put_record(be, with_e, other), state_error);
}

TEST_CASE("a record makes the adapter it is of, which any choice at run time takes as well", "[io]") {
  auto be = test::make_backend();
  auto const plain = test::random_record("m", 8, 6, 3, 0, 4);
  auto const check = [&](adapter_record const& r, adapter_kind kind) {
    auto const ad = adapter_of<float>(be, r, {.seed = 7});
    CHECK(ad.kind() == kind);
    CHECK(ad.scale() == r.scale);
    CHECK(ad.seed() == 7);
    auto const back = take_record(be, ad, "m");
    CHECK(test::distance(test::host_of(back.a), test::host_of(r.a)) < 1e-6);
    CHECK(back.has_e() == r.has_e());
    CHECK(back.has_magnitude() == r.has_magnitude());
  };
  check(plain, adapter_kind::lora);
  check(test::with_magnitude(plain), adapter_kind::dora);
  check(test::with_e(plain), adapter_kind::adalora);
  any_adapter<float, test::backend> small(adapter_kind::lora_sb, be, 8, 6, 3, constant_scaling{plain.scale});
  put_record(be, plain, small);
  CHECK(test::distance(test::host_of(take_record(be, small, "m").b) * test::host_of(take_record(be, small, "m").a),
                       test::host_of(plain.b) * test::host_of(plain.a)) < 1e-5);
  CHECK_THROWS_AS(put_record(be, test::with_e(plain), small), state_error);
}
