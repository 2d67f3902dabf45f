#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/dropout.hpp>
#include <loraga/init/gaussian.hpp>
#include <loraga/initialise.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("dropout: rate, scale, modes, and masks that repeat in backward", "[adapter]") {
  auto be = test::make_backend();
  index_t const in = 403, tokens = 200;  // rows not a multiple of four
  lora<float, test::backend> ad(be, in, in, 1, constant_scaling{1}, {.dropout = 0.25, .seed = 3});
  // A picks every input once into H; watch what comes through by A = a row of ones and X = ones
  fill(be, ad.a(), 1);
  fill(be, ad.b(), 1);
  ad.values_changed(be);
  auto x = upload<float>(be, host(in, tokens, 1.0));
  auto const sums = [&] {
    decltype(ad)::tape t;
    matrix<float, test::backend> y(be, in, tokens);
    fill(be, y.view(), 0);
    ad.forward(be, x.view(), x.view(), y.view(), t);
    return download(be, t.h.view().columns(0, tokens));
  };
  host const first = sums(), second = sums();
  CHECK(test::distance(first, second) > 0);  // a new mask each pass
  CHECK(ad.dropout_passes(be) == 2);
  double mean = 0, square = 0;
  for (double const h : first.data) mean += h / tokens, square += (h - in) * (h - in) / tokens;
  CHECK(mean == Approx(in).epsilon(0.01));                 // scaled by 1/(1-p)
  CHECK(square == Approx(in * 0.25 / 0.75).epsilon(0.3));  // variance of a mask of that rate
  ad.restart_dropout(be, 0);
  CHECK(test::distance(sums(), first) == 0);
  ad.train(false);
  CHECK(!ad.training());
  CHECK(test::distance(sums(), host(1, tokens, static_cast<double>(in))) == 0);

  // dA sees the same mask as forward did: with dH = 1, dA(i) counts the kept entries of row i, scaled
  ad.train(true);
  ad.restart_dropout(be, 0);
  decltype(ad)::tape t;
  matrix<float, test::backend> y(be, in, tokens), dx(be, in, tokens);
  fill(be, y.view(), 0);
  ad.forward(be, x.view(), x.view(), y.view(), t);
  auto dy = upload<float>(be, host(in, tokens, 1.0 / in));
  (void)ad.backward(be, x.view(), x.view(), dy.view(), t, 0.0, dx.view());
  host const da = download(be, ad.parameters()[0].gradient), masked = download(be, dx.view());
  CHECK(std::accumulate(da.data.begin(), da.data.end(), 0.0) ==
        Approx(std::accumulate(first.data.begin(), first.data.end(), 0.0)).epsilon(1e-4));
  for (double const d : masked.data) REQUIRE((d == 0 || std::abs(d - 1 / 0.75) < 1e-4));
  for (index_t j = 0; j < tokens; ++j) {
    double column = 0;
    for (index_t i = 0; i < in; ++i) column += masked(i, j);
    REQUIRE(column == Approx(first(0, j)).epsilon(1e-4));
  }
}

TEST_CASE("each tape keeps its own mask, the seed decides them, and a resumed run goes on", "[adapter]") {
  auto be = test::make_backend();
  index_t const in = 64, tokens = 8;
  using adapter = lora<float, test::backend>;
  auto const make = [&](std::uint64_t seed) {
    adapter ad(be, in, in, 1, constant_scaling{1}, {.dropout = 0.5, .seed = seed});
    fill(be, ad.a(), 1);
    fill(be, ad.b(), 1);
    ad.values_changed(be);
    return ad;
  };
  auto x = upload<float>(be, host(in, tokens, 1.0)), dy = upload<float>(be, host(in, tokens, 1.0 / in));
  auto const forward = [&](adapter& ad, adapter::tape& t) {
    matrix<float, test::backend> y(be, in, tokens);
    fill(be, y.view(), 0);
    ad.forward(be, x.view(), x.view(), y.view(), t);
  };
  auto const mask = [&](adapter& ad, adapter::tape& t) {  // as backward sees it
    t.keep = true;
    matrix<float, test::backend> dx(be, in, tokens);
    (void)ad.backward(be, x.view(), x.view(), dy.view(), t, 0.0, dx.view());
    return download(be, dx.view());
  };
  adapter one = make(1);
  adapter::tape first, second, third;
  forward(one, first);
  forward(one, second);
  host const m2 = mask(one, second), m1 = mask(one, first);  // in any order
  CHECK(test::distance(m1, m2) > 0);
  CHECK(test::distance(mask(one, first), m1) == 0);

  adapter resumed = make(1);
  resumed.restart_dropout(be, one.dropout_passes(be) - 1);
  adapter moved = std::move(resumed);
  forward(moved, third);
  CHECK(test::distance(mask(moved, third), m2) == 0);
  adapter other = make(2);
  other.restart_dropout(be, 1);
  forward(other, third);
  CHECK(test::distance(mask(other, third), m2) > 0);
}

TEMPLATE_TEST_CASE("an evaluation while merged shifts no later mask", "[adapter]", (lora<float, test::backend>),
                   (dora<float, test::backend>)) {
  auto be = test::make_backend();
  index_t const in = 64, tokens = 8;
  auto w = upload<float>(be, test::random(in, in, 1));
  auto const x = upload<float>(be, test::random(in, tokens, 2));
  auto const run = [&](bool evaluate) {
    TestType ad(be, in, in, 2, constant_scaling{1}, {.dropout = 0.5, .seed = 4});
    initialise(be, ad, gaussian_init{.seed = 3});
    fill(be, ad.b(), 0.1);
    typename TestType::tape t;
    matrix<float, test::backend> y(be, in, tokens);
    auto const pass = [&] {
      fill(be, y.view(), 0);
      ad.forward(be, w.view(), x.view(), y.view(), t);
    };
    pass();
    if (evaluate) {
      ad.merge(be, w.view());
      pass();  // the adapter adds nothing, and draws no mask
      CHECK(test::largest(download(be, y.view())) == 0);
      ad.unmerge(be, w.view());
    }
    pass();
    CHECK(ad.dropout_passes(be) == 2);
    return download(be, y.view());
  };
  host const plain = run(false), evaluated = run(true);
  CHECK(test::distance(plain, evaluated) < 1e-4);
}
