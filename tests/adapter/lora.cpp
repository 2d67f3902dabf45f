#include <loraga/adapter/lora.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

using adapter64 = lora<double, test::backend>;

/// An adapter with A and B that are not what any start gives.
template <class T>
lora<T, test::backend> moved(test::backend& be, index_t out, index_t in, index_t r, lora_options o = {}) {
  lora<T, test::backend> ad(be, out, in, r, rank_stable_scaling{4}, o);
  test::upload_to<T>(be, test::random(r, in, 1, 0.3), ad.a());
  test::upload_to<T>(be, test::random(out, r, 2, 0.3), ad.b());
  ad.values_changed(be);
  return ad;
}

}  // namespace

TEST_CASE("forward is W*x + s*B*A*x; a new adapter refuses to work", "[adapter]") {
  auto be = test::make_backend();
  host const w = test::random(12, 9, 3), x = test::random(9, 7, 4);
  auto dw = upload<double>(be, w), dx = upload<double>(be, x);
  adapter64 fresh(be, 12, 9, 3, classic_scaling{6});
  CHECK(fresh.scale() == 2);
  adapter64::tape t;
  CHECK_THROWS_WITH(test::run_forward(be, fresh, dw.view(), dx.view(), t), Catch::Contains("without a start"));
  CHECK_THROWS_AS(fresh.merge(be, dw.view()), state_error);
  fresh.values_changed(be);  // A = B = 0 by will
  CHECK(test::distance(test::run_forward(be, fresh, dw.view(), dx.view(), t), w * x) < 1e-14);
  auto ad = moved<double>(be, 12, 9, 3);
  CHECK(test::distance(test::run_forward(be, ad, dw.view(), dx.view(), t), (w + test::change_of(be, ad)) * x) < 1e-13);
}

TEST_CASE("backward agrees with finite differences", "[adapter]") {
  auto be = test::make_backend();
  host const w = test::random(8, 6, 3), x = test::random(6, 5, 4);
  auto const nothing = [] {};
  SECTION("with A and B moved") {
    auto ad = moved<double>(be, 8, 6, 2);
    test::check_gradients(be, ad, w, x, nothing);
  }
  SECTION("at LoRA's start, where B is 0") {
    adapter64 ad(be, 8, 6, 2, classic_scaling{});
    initialise(be, ad, kaiming_init{});
    test::check_gradients(be, ad, w, x, nothing);
  }
  SECTION("with a frozen pair, at the start and after A and B have moved") {
    test::fixture<double> f(8, 6, 2);
    adapter64 ad(f.be, 8, 6, 2, rank_stable_scaling{});
    initialise(f.be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
    test::check_gradients(f.be, ad, w, x, nothing);
    test::upload_to<double>(f.be, test::random(2, 6, 1, 0.3), ad.a());
    test::upload_to<double>(f.be, test::random(8, 2, 2, 0.3), ad.b());
    test::check_gradients(f.be, ad, w, x, nothing);
  }
  SECTION("with dropout, one mask") {
    // a fresh adapter draws mask number 1 first: rebuild it before each evaluation
    auto ad = moved<double>(be, 8, 6, 2, {.dropout = 0.4, .seed = 5});
    test::check_gradients(be, ad, w, x, [&] { ad.restart_dropout(be, 0); });
  }
}

TEST_CASE("gradients accumulate over uses; a layer may be used twice in a step", "[adapter]") {
  auto be = test::make_backend();
  auto ad = moved<double>(be, 8, 6, 2);
  host const w = test::random(8, 6, 3), x1 = test::random(6, 5, 4), x2 = test::random(6, 3, 5);
  host const dy1 = test::random(8, 5, 6), dy2 = test::random(8, 3, 7);
  auto dw = upload<double>(be, w), d1 = upload<double>(be, x1), d2 = upload<double>(be, x2);
  auto g1 = upload<double>(be, dy1), g2 = upload<double>(be, dy2);
  adapter64::tape t1, t2;
  test::run_forward(be, ad, dw.view(), d1.view(), t1);
  test::run_forward(be, ad, dw.view(), d2.view(), t2);
  (void)ad.backward(be, dw.view(), d2.view(), g2.view(), t2, 0.0, test::view<double>{});
  (void)ad.backward(be, dw.view(), d1.view(), g1.view(), t1, 0.0, test::view<double>{});
  host const g = dy1 * transpose(x1) + dy2 * transpose(x2), a = download(be, ad.a()), b = download(be, ad.b());
  CHECK(test::distance(download(be, ad.parameters()[0].gradient), ad.scale() * (transpose(b) * g)) < 1e-12);
  CHECK(test::distance(download(be, ad.parameters()[1].gradient), ad.scale() * (g * transpose(a))) < 1e-12);
  // all gradients are one buffer
  host const flat = download(be, ad.gradient());
  CHECK(flat.rows == 2 * (8 + 6));
  CHECK(test::norm(flat) == Approx(std::hypot(test::norm(download(be, ad.parameters()[0].gradient)),
                                              test::norm(download(be, ad.parameters()[1].gradient)))));
  ad.zero_gradient(be);
  CHECK(test::largest(download(be, ad.gradient())) == 0);
}

TEST_CASE("merge equals the adapter; unmerge takes it back", "[adapter]") {
  for (bool const pair : {false, true}) {
    auto be = test::make_backend();
    auto ad = moved<double>(be, 12, 9, 3);
    if (pair) {
      test::freeze(be, ad);
      test::upload_to<double>(be, test::random(12, 3, 9, 0.3), ad.b());
    }
    host const w = test::random(12, 9, 3), x = test::random(9, 7, 4);
    auto dw = upload<double>(be, w), dx = upload<double>(be, x);
    adapter64::tape t;
    host const y = test::run_forward(be, ad, dw.view(), dx.view(), t);
    auto copy = upload<double>(be, w);
    ad.add_change(be, copy.view());
    CHECK(!ad.merged());
    ad.merge(be, dw.view());
    CHECK(ad.merged());
    CHECK(test::distance(download(be, dw.view()), w + test::change_of(be, ad)) < 1e-13);
    CHECK(test::distance(download(be, copy.view()), download(be, dw.view())) == 0);
    CHECK(test::distance(test::run_forward(be, ad, dw.view(), dx.view(), t), y) <
          1e-12);  // a merged adapter adds nothing
    CHECK_THROWS_AS(ad.merge(be, dw.view()), state_error);
    CHECK_THROWS_AS(ad.backward(be, dw.view(), dx.view(), upload<double>(be, y).view(), t, 0.0, test::view<double>{}),
                    state_error);
    CHECK_THROWS_AS(ad.check_start(), state_error);
    ad.unmerge(be, dw.view());
    CHECK(test::distance(download(be, dw.view()), w) < 1e-13);
    CHECK_THROWS_AS(ad.unmerge(be, dw.view()), state_error);
  }
}

TEST_CASE("16-bit adapters: float masters and gradients, rounded values", "[adapter]") {
  auto be = test::make_backend();
  lora<bf16, test::backend> ad(be, 30, 20, 4, classic_scaling{});
  initialise(be, ad, kaiming_init{.seed = 2});
  auto const p = ad.parameters();
  STATIC_REQUIRE(std::is_same_v<decltype(p[0].gradient), matrix_view<float, test::space>>);
  CHECK(p[0].master.rows == 4);
  CHECK(test::distance(download(be, p[0].master), download(be, p[0].value)) == 0);
  CHECK(test::largest(download(be, p[0].value)) > 0);
  host const x = test::random(20, 6, 4), dy = test::random(30, 6, 5);
  auto dx = upload<bf16>(be, x), gy = upload<bf16>(be, dy);
  matrix<bf16, test::backend> y(be, 30, 6), gx(be, 20, 6);
  fill(be, y.view(), 0);
  decltype(ad)::tape t;
  test::upload_to<bf16>(be, test::random(30, 4, 6, 0.1), ad.b());
  ad.forward(be, dx.view(), dx.view(), y.view(), t);
  (void)ad.backward(be, dx.view(), dx.view(), gy.view(), t, 0.0, gx.view());
  host const hx = download(be, dx.view()), hdy = download(be, gy.view()), a = download(be, ad.a()),
             b = download(be, ad.b());
  CHECK(test::distance(download(be, y.view()), ad.scale() * (b * (a * hx))) < 0.01);  // rounded to bf16 once
  host const db = ad.scale() * (hdy * transpose(a * hx)), da = ad.scale() * (transpose(b) * hdy * transpose(hx));
  bool const rounded = std::is_same_v<inner_t<test::backend, bf16>, bf16>;  // h and dh, once
  CHECK(test::distance(download(be, p[1].gradient), db) < (rounded ? 0.004 * test::largest(db) : 1e-4));
  CHECK(test::distance(download(be, p[0].gradient), da) < (rounded ? 0.004 * test::largest(da) : 1e-4));
}

TEST_CASE("bad sizes, settings and shapes are refused by name and change nothing", "[adapter]") {
  auto be = test::make_backend();
  using A = lora<float, test::backend>;
  CHECK_THROWS_AS(A(be, 5, 5, 0, classic_scaling{}), value_error);
  CHECK_THROWS_AS(A(be, 0, 5, 1, classic_scaling{}), value_error);
  CHECK_THROWS_AS(A(be, 8, 8, index_t{1} << 60, classic_scaling{}), value_error);
  CHECK_THROWS_AS(A(be, 5, 5, 1, classic_scaling{}, {.dropout = 1}), value_error);
  CHECK_THROWS_AS(A(be, 5, 5, 1, classic_scaling{}, {.dropout = -0.1}), value_error);
  CHECK_THROWS_AS(A(be, 5, 5, 1, classic_scaling{NAN}), value_error);
  auto ad = moved<float>(be, 8, 6, 2);
  auto x = upload<float>(be, test::random(6, 5, 1)), y = upload<float>(be, test::random(8, 5, 2));
  auto dx = upload<float>(be, test::random(6, 5, 3));
  auto const before = download(be, y.view()), before_dx = download(be, dx.view());
  decltype(ad)::tape t;
  CHECK_THROWS_AS(ad.forward(be, x.view(), y.view(), y.view(), t), shape_error);
  CHECK_THROWS_AS(ad.forward(be, x.view(), x.view().columns(0, 4), y.view(), t), shape_error);
  matrix_view<float, test::space> const folded(y.view().data, 6, 5, 1, 8);
  CHECK_THROWS_AS(ad.forward(be, x.view(), folded, y.view(), t), alias_error);
  CHECK_THROWS_AS(ad.backward(be, x.view(), x.view(), y.view(), t, 0.0, dx.view()), state_error);  // no forward yet
  CHECK(test::distance(download(be, y.view()), before) == 0);
  ad.forward(be, x.view(), x.view(), y.view(), t);
  CHECK_THROWS_AS(ad.backward(be, x.view(), x.view(), y.view(), t, 0.0, dx.view().columns(0, 4)), shape_error);
  CHECK_THROWS_AS(ad.backward(be, x.view(), x.view(), y.view(), t, 0.0, x.view()), alias_error);
  CHECK_THROWS_AS(
      (void)ad.backward(be, x.view(), x.view().columns(0, 4), y.view().columns(0, 4), t, 0.0, dx.view().columns(0, 4)),
      state_error);
  matrix_view<float, test::space> const gaps(dx.view().data, 6, 2, 2, 12);
  auto const two = [&](auto& m) { return m.view().columns(0, 2); };
  decltype(ad)::tape short_tape;
  ad.forward(be, two(x), two(x), two(y), short_tape);
  CHECK_THROWS_AS(ad.backward(be, two(x), two(x), two(y), short_tape, 0.0, gaps), shape_error);
  matrix_view<float, test::space> const nowhere(nullptr, 6, 5, 1, 6);
  CHECK_THROWS_AS(ad.backward(be, x.view(), x.view(), y.view(), t, 0.0, nowhere), shape_error);
  CHECK(test::largest(download(be, ad.gradient())) == 0);
  CHECK(test::distance(download(be, dx.view()), before_dx) == 0);
  CHECK_THROWS_AS(ad.merge(be, y.view()), shape_error);
  CHECK(!ad.merged());
  adapter64 none(be, 8, 6, 2, classic_scaling{0});  // alpha = 0 is allowed: the adapter does nothing
  CHECK(none.scale() == 0);
}

TEST_CASE("no tokens, no work", "[adapter]") {
  auto be = test::make_backend();
  auto ad = moved<float>(be, 8, 6, 2);
  decltype(ad)::tape t;
  test::view<float> const x(nullptr, 6, 0, 1, 6), y(nullptr, 8, 0, 1, 8);
  CHECK_NOTHROW(ad.forward(be, x, x, y, t));
  CHECK_NOTHROW(ad.backward(be, x, x, y, t, 0.0, test::view<float>{}));
  CHECK(test::largest(download(be, ad.gradient())) == 0);
}

TEST_CASE("a tape of a merged pass is no tape; unmerge takes back what merge added, whatever happened since",
          "[adapter]") {
  auto be = test::make_backend();
  host const w = test::random(8, 6, 3);
  auto dw = upload<double>(be, w), x = upload<double>(be, test::random(6, 5, 4)), y = upload<double>(be, host(8, 5));
  auto ad = moved<double>(be, 8, 6, 2);
  adapter64::tape t;
  ad.merge(be, dw.view());
  ad.forward(be, dw.view(), x.view(), y.view(), t);
  CHECK(test::largest(download(be, y.view())) == 0);
  test::upload_to<double>(be, test::random(8, 2, 9), ad.b());
  ad.unmerge(be, dw.view());
  CHECK(test::distance(download(be, dw.view()), w) < 1e-14);
  CHECK_THROWS_WITH(ad.backward(be, dw.view(), x.view(), y.view(), t, 0.0, test::view<double>{}),
                    Catch::Contains("merged pass"));
  CHECK(test::largest(download(be, ad.gradient())) == 0);
}

TEST_CASE("16-bit values written by hand reach the optimiser", "[adapter]") {
  auto be = test::make_backend();
  lora<bf16, test::backend> ad(be, 8, 6, 2, rank_stable_scaling{});
  fill(be, ad.a(), 1);
  ad.values_changed(be);
  adamw<bf16, test::backend> opt(be);
  add_adapter(be, opt, ad, {.learning_rate = 1e-3});
  fill(be, ad.gradient(), 1);
  opt.step(be);
  CHECK(test::distance(download(be, ad.parameters()[0].master), host(2, 6, 0.999)) < 1e-5);
}

TEST_CASE("a tape knows its adapter, its mode, and whether backward has used it", "[adapter]") {
  auto be = test::make_backend();
  auto ad = moved<double>(be, 8, 6, 2), other = moved<double>(be, 8, 6, 2);
  auto x = upload<double>(be, test::random(6, 5, 4)), y = upload<double>(be, test::random(8, 5, 5));
  adapter64::tape t, empty;
  auto const back = [&](adapter64& a, adapter64::tape& tape) {
    (void)a.backward(be, x.view(), x.view(), y.view(), tape);
  };
  auto const forward = [&](adapter64& a, adapter64::tape& tape) {
    auto to = upload<double>(be, host(8, 5));
    a.forward(be, x.view(), x.view(), to.view(), tape);
    return download(be, to.view());
  };
  CHECK_THROWS_WITH(back(ad, empty), Catch::Contains("tape is empty"));
  host const out = forward(ad, t);
  CHECK_THROWS_WITH(back(other, t), Catch::Contains("of another adapter"));
  back(ad, t);
  CHECK_THROWS_WITH(back(ad, t), Catch::Contains("used by a backward already"));
  host const once = download(be, ad.gradient());
  t.keep = true;
  back(ad, t);  // a second loss through the same pass
  CHECK(test::distance(download(be, ad.gradient()), 2.0 * once) < 1e-12);
  t.keep = false;
  ad.train(false);
  forward(ad, t);
  ad.train(true);
  CHECK_THROWS_WITH(back(ad, t), Catch::Contains("of an evaluation pass"));
  CHECK(test::distance(download(be, ad.gradient()), 2.0 * once) < 1e-12);
  // an evaluation beside a training pass leaves its tape alone, and drops nothing
  auto dropping = moved<double>(be, 8, 6, 2, {.dropout = 0.5, .seed = 3});
  forward(dropping, t);
  auto to = upload<double>(be, host(8, 5));
  dropping.forward(be, x.view(), x.view(), to.view());
  CHECK(test::distance(download(be, to.view()), out) < 1e-13);
  CHECK(dropping.dropout_passes(be) == 1);
  CHECK(dropping.training());
  CHECK_NOTHROW(back(dropping, t));
  // on a square layer, dY and X exchanged
  auto square = moved<double>(be, 6, 6, 2);
  auto sx = upload<double>(be, test::random(6, 5, 7)), sy = upload<double>(be, test::random(6, 5, 8));
  square.forward(be, x.view(), sx.view(), sy.view(), t);
  CHECK_THROWS_WITH(square.backward(be, x.view(), sy.view(), sx.view(), t), Catch::Contains("X, then dY"));
  CHECK_NOTHROW(square.backward(be, x.view(), sx.view(), sy.view(), t));
  // it moves with the adapter
  forward(ad, t);
  adapter64 there = std::move(ad);
  CHECK_NOTHROW(back(there, t));
}

TEST_CASE("A, B and their gradients may lie in memory of others, wherever it moves to", "[adapter]") {
  auto be = test::make_backend();
  auto const check = [&]<class T>(T) {
    auto const a0 = test::random(2, 6, 1, 0.3), b0 = test::random(8, 2, 2, 0.3);
    struct tensors {
      matrix<T, test::backend> at, b;  // A as PyTorch keeps it, by rows
      matrix<compute_t<T>, test::backend> da, db;
      borrowed_factors<T, test::space> factors() { return {at.view().transposed(), b.view(), da.view(), db.view()}; }
    };
    auto const make = [&] {
      tensors m{upload<T>(be, transpose(a0)), upload<T>(be, b0), upload<compute_t<T>>(be, host(2, 6)),
                upload<compute_t<T>>(be, host(8, 2))};
      return m;
    };
    auto first = make();
    using A = lora<T, test::backend>;
    A own(be, 8, 6, 2, classic_scaling{4}), ad(be, first.factors(), classic_scaling{4});
    test::upload_to<T>(be, a0, own.a());
    test::upload_to<T>(be, b0, own.b());
    own.values_changed(be);
    auto w = upload<T>(be, test::random(8, 6, 3)), x = upload<T>(be, test::random(6, 5, 4)),
         dy = upload<T>(be, test::random(8, 5, 5));
    auto const pass = [&](A& adapter) {
      auto y = upload<T>(be, host(8, 5));
      typename A::tape t;
      adapter.zero_gradient(be);
      adapter.forward(be, w.view(), x.view(), y.view(), t);
      (void)adapter.backward(be, w.view(), x.view(), dy.view(), t);
      return download(be, y.view());
    };
    CHECK(test::distance(pass(own), pass(ad)) == 0);
    CHECK(test::distance(download(be, first.da.view()), download(be, own.parameters()[0].gradient)) < 1e-6);
    CHECK(test::distance(download(be, first.db.view()), download(be, own.parameters()[1].gradient)) < 1e-6);
    adamw<T, test::backend> opt(be), opt2(be);
    add_adapter(be, opt, own, {.learning_rate = 0.1});
    add_adapter(be, opt2, ad, {.learning_rate = 0.1});
    opt.step(be), opt2.step(be);
    CHECK(test::distance(download(be, first.b.view()), download(be, own.b())) == 0);
    CHECK(test::distance(download(be, first.at.view()), download(be, own.a().transposed())) == 0);
    // memory that holds nothing is no start
    tensors zeros{upload<T>(be, host(6, 2)), upload<T>(be, host(8, 2)), upload<compute_t<T>>(be, host(2, 6)),
                  upload<compute_t<T>>(be, host(8, 2))};
    A fresh(be, zeros.factors(), classic_scaling{4});
    CHECK(!fresh.started());
    CHECK_THROWS_AS(pass(fresh), state_error);
    initialise(be, fresh, kaiming_init{});
    CHECK_NOTHROW(pass(fresh));
    CHECK(test::largest(download(be, zeros.at.view())) > 0);
    // a framework loads a checkpoint: other storage, other values
    auto second = make();
    ad.adopt(be, second.factors());
    fill(be, first.b.view(), 99);
    CHECK(test::distance(download(be, ad.b()), download(be, second.b.view())) == 0);
    CHECK(test::distance(pass(own), pass(ad)) > 0);
    auto target = upload<T>(be, host(8, 6));
    ad.merge(be, target.view());
    CHECK(test::norm(download(be, target.view()) - ad.scale() * (download(be, ad.b()) * download(be, ad.a()))) < 0.02);
    CHECK_THROWS_AS(ad.gradient(), state_error);
    CHECK_THROWS_AS(own.adopt(be, second.factors()), state_error);
    auto wrong = second.factors();
    wrong.b = wrong.b.columns(0, 1);
    CHECK_THROWS_AS(ad.adopt(be, wrong), shape_error);
    CHECK_THROWS_AS(A(be, wrong, classic_scaling{}), shape_error);
    wrong = second.factors();
    wrong.db = {};
    CHECK_THROWS_AS(A(be, wrong, classic_scaling{}), shape_error);
  };
  check(float());
  check(bf16());
}
