#include <loraga/adapter/dora.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

using dora64 = dora<double, test::backend>;

host row_norms_of(host const& v) {
  return test::generate(v.rows, 1, [&](index_t i, index_t) {
    double sum = 0;
    for (index_t k = 0; k < v.cols; ++k) sum += v(i, k) * v(i, k);
    return std::sqrt(sum);
  });
}
host scaled_rows(host const& d, host const& m) {
  return test::generate(m.rows, m.cols, [&](index_t i, index_t j) { return d(i, 0) * m(i, j); });
}
host over(host const& x, host const& y) {
  return test::generate(x.rows, x.cols, [&](index_t i, index_t j) { return x(i, j) / y(i, j); });
}
/// What W + s*B*A is for this adapter on this W, formed.
template <class A>
host whole(test::backend& be, A& ad, host const& w) {
  host v = download(be, ad.b()) * download(be, ad.a());
  if (ad.paired()) v = v - download(be, ad.start_b()) * download(be, ad.start_a());
  return w + ad.scale() * v;
}
/// Moves A, B and g away from any start; g by up to a third.
template <class A>
void move(test::backend& be, A& ad, test::view<double> w) {
  test::upload_to<double>(be, test::random(ad.rank(), ad.in(), 1, 0.3), ad.a());
  test::upload_to<double>(be, test::random(ad.out(), ad.rank(), 2, 0.3), ad.b());
  ad.values_changed(be);
  ad.prepare(be, w);
  host g = download(be, ad.magnitude());
  for (index_t i = 0; i < g.rows; ++i) g(i, 0) *= 0.7 + 0.1 * static_cast<double>(i % 7);
  test::upload_to<double>(be, g, ad.magnitude());
}

}  // namespace

TEST_CASE("DoRA's starts leave the model as it was, under either anchor", "[adapter]") {
  test::fixture<float> f(12, 9, 3);
  host const x = test::random(9, 7, 4);
  auto dx = upload<float>(f.be, x);
  auto const base = download(f.be, f.weight.view()) * download(f.be, dx.view());
  auto const change = [&](auto& ad) {
    typename std::remove_reference_t<decltype(ad)>::tape t;
    matrix<float, test::backend> y(f.be, 12, 7);
    f.be.gemm(1.0, f.weight.view(), dx.view(), 0.0, y.view());
    ad.forward(f.be, f.weight.view(), dx.view(), y.view(), t);
    return test::largest(download(f.be, y.view()) - base);
  };
  dora<float, test::backend> plain(f.be, 12, 9, 3, classic_scaling{}), pair(f.be, 12, 9, 3, rank_stable_scaling{}),
      in_place(f.be, 12, 9, 3, rank_stable_scaling{});
  CHECK(!plain.prepared());
  initialise(f.be, plain, kaiming_init{});
  double const rounding = test::largest(base) * 1e-6;
  CHECK(change(plain) <= rounding);
  CHECK(plain.prepared());
  CHECK(test::distance(download(f.be, plain.magnitude()), row_norms_of(f.w)) < 1e-6);
  initialise(f.be, pair, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, frozen_pair_anchor{});
  CHECK(change(pair) <= rounding);
  CHECK(test::distance(download(f.be, pair.magnitude()), row_norms_of(f.w)) < 1e-6);
  initialise(f.be, in_place, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
  CHECK(change(in_place) <= 10 * rounding);
  CHECK(test::distance(download(f.be, in_place.magnitude()), row_norms_of(f.w)) < 1e-5);
  // a second start after passes on another W
  initialise(f.be, plain, gaussian_init{});
  CHECK(change(plain) > 0.1);  // W has changed under it
  test::upload_to<float>(f.be, f.w, f.weight.view());
  initialise(f.be, plain, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
  CHECK(change(plain) <= 10 * rounding);
}

TEST_CASE("DoRA's forward is the definition, and backward its gradient with N constant", "[adapter]") {
  for (bool const pair : {false, true})
    for (bool const given : {false, true}) {
      CAPTURE(pair, given);
      test::fixture<double> f(8, 6, 2);
      auto& be = f.be;
      dora64 ad(be, 8, 6, 2, rank_stable_scaling{4});
      if (pair) initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
      move(be, ad, f.weight.view());
      host const x = test::random(6, 5, 4), dy = test::random(8, 5, 5);
      auto dx = upload<double>(be, x), ddy = upload<double>(be, dy), product = upload<double>(be, f.w * x);
      auto y = upload<double>(be, host(8, 5, 0.25));  // a bias, or anything else the caller adds
      be.gemm(1.0, f.weight.view(), dx.view(), 1.0, y.view());
      dora64::tape t;
      if (given) ad.forward(be, f.weight.view(), dx.view(), product.view(), y.view(), t);
      else ad.forward(be, f.weight.view(), dx.view(), y.view(), t);
      host const v = whole(be, ad, f.w), g = download(be, ad.magnitude()), n = row_norms_of(v), ratio = over(g, n);
      CHECK(test::distance(download(be, y.view()), host(8, 5, 0.25) + scaled_rows(ratio, v * x)) < 1e-12);

      host const before = test::random(6, 5, 9);
      auto grad_x = upload<double>(be, before);
      auto const back = ad.backward(be, f.weight.view(), dx.view(), ddy.view(), t, 0.5, grad_x.view());
      host const d = scaled_rows(ratio, dy), a = download(be, ad.a()), b = download(be, ad.b());
      CHECK(test::distance(download(be, back), d) < 1e-13);
      be.gemm(1.0, f.weight.view().transposed(), back, 1.0, grad_x.view());
      CHECK(test::distance(download(be, grad_x.view()), 0.5 * before + transpose(v) * d) < 1e-12);
      auto const p = ad.parameters();
      CHECK(test::distance(download(be, p[0].gradient), ad.scale() * (transpose(b) * d * transpose(x))) < 1e-12);
      CHECK(test::distance(download(be, p[1].gradient), ad.scale() * (d * transpose(x) * transpose(a))) < 1e-12);
      host const dg = over((dy * transpose(x) * transpose(v)), host(8, 8, 1));
      for (index_t i = 0; i < 8; ++i) CHECK(std::abs(download(be, p[2].gradient)(i, 0) - dg(i, i) / n(i, 0)) < 1e-12);
      CHECK(ad.gradient().rows == 2 * (8 + 6) + 8);
    }
}

TEST_CASE("DoRA in the place of W*X, over many blocks of tokens, with any tape", "[adapter]") {
  auto be = test::make_backend();
  index_t const out = 12, in = 9, tokens = 301;  // blocks of 32 tokens, the last one short
  host const w = test::random(out, in, 3, 0.4), x = test::random(in, tokens, 4), dy = test::random(out, tokens, 5);
  auto dw = upload<double>(be, w), dx = upload<double>(be, x), ddy = upload<double>(be, dy);
  for (bool const pair : {false, true}) {
    dora64 ad(be, out, in, 2, rank_stable_scaling{4});
    if (pair) {
      initialise(be, ad, kaiming_init{});
      test::upload_to<double>(be, test::random(out, 2, 8, 0.3), ad.b());
      test::freeze(be, ad);
    }
    move(be, ad, dw.view());
    host const v = whole(be, ad, w), n = row_norms_of(v), ratio = over(download(be, ad.magnitude()), n);
    host const d = scaled_rows(ratio, dy);
    host const dg = test::generate(out, 1, [&](index_t i, index_t) {
      double sum = 0;
      host const product = v * x;
      for (index_t j = 0; j < tokens; ++j) sum += dy(i, j) * product(i, j);
      return sum / n(i, 0);
    });
    for (bool const keep : {false, true}) {
      CAPTURE(pair, keep);
      dora64::tape t;
      t.keep = keep;
      auto y = upload<double>(be, w * x), grad_x = upload<double>(be, host(in, tokens));
      ad.forward(be, dw.view(), dx.view(), read_only(y.view()), y.view(), t);
      CHECK(test::distance(download(be, y.view()), scaled_rows(ratio, v * x)) < 1e-12);
      ad.zero_gradient(be);
      auto const back = ad.backward(be, dw.view(), dx.view(), ddy.view(), t, 0.0, grad_x.view());
      CHECK(test::distance(download(be, back), d) < 1e-13);
      auto const p = ad.parameters();
      host const da = download(be, p[0].gradient), db = download(be, p[1].gradient);
      CHECK(test::distance(da, ad.scale() * (transpose(download(be, ad.b())) * d * transpose(x))) < 1e-11);
      CHECK(test::distance(db, ad.scale() * (d * transpose(x) * transpose(download(be, ad.a())))) < 1e-11);
      CHECK(test::distance(download(be, p[2].gradient), dg) < 1e-12);
      CHECK(test::distance(download(be, grad_x.view()), transpose(v - w) * d) < 1e-11);
      CHECK((t.dy.rows() > 0) == keep);
      // once more: a tape that was kept gives the same again; another has been written over, and says so
      t.keep = true;
      if (!keep) {
        CHECK_THROWS_AS(ad.backward(be, dw.view(), dx.view(), ddy.view(), t), state_error);
        continue;
      }
      (void)ad.backward(be, dw.view(), dx.view(), ddy.view(), t);
      CHECK(test::distance(download(be, p[2].gradient), 2 * dg) < 1e-12);
    }
  }
  dora64 ad(be, out, in, 2, rank_stable_scaling{4});
  move(be, ad, dw.view());
  dora64::tape t;
  auto y = upload<double>(be, host(out, tokens + 1));
  CHECK_THROWS_AS(
      ad.forward(be, dw.view(), dx.view(), read_only(y.view().columns(1, tokens)), y.view().columns(0, tokens), t),
      alias_error);  // shifted: neither Y nor beside it
}

#ifndef LORAGA_TEST_CUDA
TEST_CASE("DoRA's numbers do not depend on the number of threads", "[adapter]") {
  index_t const out = 300, in = 200, tokens = 500;
  auto const run = [&](int threads) {
    cpu be(threads);
    auto dw = upload<float>(be, test::random(out, in, 3)), dx = upload<float>(be, test::random(in, tokens, 4)),
         dy = upload<float>(be, test::random(out, tokens, 5)), y = upload<float>(be, test::random(out, tokens, 6)),
         grad = upload<float>(be, host(in, tokens));
    dora<float, cpu> ad(be, out, in, 4, rank_stable_scaling{4});
    test::upload_to<float>(be, test::random(4, in, 1), ad.a());
    test::upload_to<float>(be, test::random(out, 4, 2), ad.b());
    ad.values_changed(be);
    dora<float, cpu>::tape t;
    ad.forward(be, dw.view(), dx.view(), read_only(y.view()), y.view(), t);
    (void)ad.backward(be, dw.view(), dx.view(), dy.view(), t, 0.0, grad.view());
    return std::pair(download(be, y.view()), download(be, ad.gradient()));
  };
  auto const one = run(1), three = run(3);
  CHECK(test::distance(one.first, three.first) == 0);
  CHECK(test::distance(one.second, three.second) == 0);
  CHECK(test::norm(one.second) > 0);
}
#endif

TEST_CASE("DoRA with dropout is PEFT's: W*x undropped, the rest through one mask", "[adapter]") {
  auto be = test::make_backend();
  host const w = test::random(8, 6, 3, 0.4), ones(6, 400, 1), dy = test::random(8, 400, 5);
  auto dw = upload<double>(be, w), dx = upload<double>(be, ones), ddy = upload<double>(be, dy);
  dora64 ad(be, 8, 6, 2, rank_stable_scaling{4}, {.dropout = 0.5, .seed = 3});
  move(be, ad, dw.view());
  // the mask itself, as a plain LoRA of rank 6 with A = B = I shows it
  lora<double, test::backend> seen(be, 6, 6, 6, constant_scaling{1}, {.dropout = 0.5, .seed = 3});
  test::upload_to<double>(be, test::identity(6), seen.a());
  test::upload_to<double>(be, test::identity(6), seen.b());
  seen.values_changed(be);
  matrix<double, test::backend> masked(be, 6, 400);
  fill(be, masked.view(), 0);
  decltype(seen)::tape ts;
  seen.forward(be, dw.view(), dx.view(), masked.view(), ts);
  host const xd = download(be, masked.view());
  CHECK(test::norm(xd - ones) > 10);

  auto y = upload<double>(be, w * ones);
  dora64::tape t;
  ad.forward(be, dw.view(), dx.view(), y.view(), t);
  host const v = whole(be, ad, w), n = row_norms_of(v), ratio = over(download(be, ad.magnitude()), n);
  host const less = ratio - host(8, 1, 1), change = v - w;
  CHECK(test::distance(download(be, y.view()), w * ones + scaled_rows(less, w * xd) + scaled_rows(ratio, change * xd)) <
        1e-11);
  auto grad_x = upload<double>(be, host(6, 400));
  auto const back = ad.backward(be, dw.view(), dx.view(), ddy.view(), t, 0.0, grad_x.view());
  CHECK(test::distance(download(be, back), dy) == 0);
  host const through = transpose(w) * scaled_rows(less, dy) + transpose(change) * scaled_rows(ratio, dy);
  host const expected = test::generate(6, 400, [&](index_t i, index_t j) { return xd(i, j) * through(i, j); });
  CHECK(test::distance(download(be, grad_x.view()), expected) < 1e-11);
  host const a = download(be, ad.a()), d = scaled_rows(ratio, dy);
  CHECK(test::distance(download(be, ad.parameters()[1].gradient), ad.scale() * (d * transpose(a * xd))) < 1e-10);
}

TEST_CASE("DoRA's merge equals the adapter; unmerge takes it back", "[adapter]") {
  for (bool const pair : {false, true}) {
    test::fixture<double> f(12, 9, 3);
    auto& be = f.be;
    dora64 ad(be, 12, 9, 3, rank_stable_scaling{4});
    if (pair) initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
    CHECK_THROWS_AS(ad.add_change(be, f.weight.view()), state_error);  // no magnitude yet
    move(be, ad, f.weight.view());
    host const v = whole(be, ad, f.w), x = test::random(9, 7, 4);
    host const expected = scaled_rows(over(download(be, ad.magnitude()), row_norms_of(v)), v);
    auto copy = upload<double>(be, f.w), dx = upload<double>(be, x);
    ad.add_change(be, copy.view());
    ad.merge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), expected) < 1e-12);
    CHECK(test::distance(download(be, copy.view()), expected) < 1e-12);
    dora64::tape t;
    CHECK(test::distance(test::run_forward(be, ad, f.weight.view(), dx.view(), t), expected * x) < 1e-12);
    test::upload_to<double>(be, test::random(12, 3, 9), ad.b());
    ad.unmerge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-12);
    fill(be, ad.magnitude(), 0);
    CHECK_THROWS_AS(ad.merge(be, f.weight.view()), state_error);
    CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-12);
  }
}

TEST_CASE("DoRA: 16-bit storage starts exactly, a zero row stays alone, bad shapes are refused", "[adapter]") {
  auto be = test::make_backend();
  host w = test::random(6, 8, 3);
  for (index_t k = 0; k < 8; ++k) w(2, k) = 0;
  auto dw = upload<bf16>(be, w), x = upload<bf16>(be, test::random(8, 5, 4)),
       y = upload<bf16>(be, test::random(6, 5, 5));
  dora<bf16, test::backend> ad(be, 6, 8, 2, classic_scaling{});
  initialise(be, ad, kaiming_init{});
  decltype(ad)::tape t;
  auto const before = download(be, y.view());
  CHECK_THROWS_AS(ad.forward(be, x.view(), x.view(), y.view(), t), shape_error);
  CHECK(!ad.prepared());
  ad.forward(be, dw.view(), x.view(), y.view(), t);
  CHECK(test::distance(download(be, y.view()), before) == 0);
  ad.values_changed(be);  // A and B by hand: g's master stays as precise as it was
  ad.forward(be, dw.view(), x.view(), y.view(), t);
  CHECK(test::distance(download(be, y.view()), before) == 0);
  auto gx = upload<bf16>(be, host(8, 5));
  (void)ad.backward(be, dw.view(), x.view(), y.view(), t, 0.0, gx.view());
  CHECK(std::isfinite(test::norm(download(be, ad.gradient()))));
  CHECK(test::norm(download(be, ad.parameters()[2].gradient)) > 0);
  CHECK(download(be, ad.parameters()[2].gradient)(2, 0) == 0);
}

TEST_CASE("a chain of layers is right when each base goes on with what backward returns", "[adapter]") {
  auto be = test::make_backend();
  index_t const sizes[] = {5, 7, 6, 4}, tokens = 3;
  std::vector<matrix<double, test::backend>> w, x, dx;
  std::vector<dora64> layers;
  std::vector<dora64::tape> tapes(3);
  for (int i = 0; i < 3; ++i) {
    w.push_back(upload<double>(be, test::random(sizes[i + 1], sizes[i], static_cast<std::uint64_t>(i))));
    layers.emplace_back(be, sizes[i + 1], sizes[i], 2, rank_stable_scaling{4});
    move(be, layers.back(), w.back().view());
  }
  for (int i = 0; i < 4; ++i) {
    x.push_back(upload<double>(be, test::random(sizes[i], tokens, static_cast<std::uint64_t>(10 + i))));
    dx.emplace_back(be, sizes[i], tokens);
  }
  host const r = test::random(4, tokens, 20);
  auto const loss = [&] {
    for (std::size_t i = 0; i < 3; ++i) {
      be.gemm(1, w[i].view(), x[i].view(), 0, x[i + 1].view());
      layers[i].forward(be, w[i].view(), x[i].view(), x[i + 1].view(), tapes[i]);
    }
    return test::inner(r, download(be, x[3].view()));
  };
  loss();
  test::upload_to<double>(be, r, dx[3].view());
  for (std::size_t i = 3; i-- > 0;) {
    auto const seen = layers[i].backward(be, w[i].view(), x[i].view(), dx[i + 1].view(), tapes[i], 0, dx[i].view());
    be.gemm(1, w[i].view().transposed(), seen, 1, dx[i].view());
  }
  host const dg = download(be, layers[0].parameters()[2].gradient);
  host moved = download(be, x[0].view()), g = download(be, layers[0].magnitude());
  auto const difference = [&](host& value, index_t i, index_t j, auto const& set) {
    double const keep = value(i, j), h = 1e-5;
    value(i, j) = keep + h;
    set();
    double const up = loss();
    value(i, j) = keep - h;
    set();
    double const down = loss();
    value(i, j) = keep;
    set();
    return (up - down) / (2 * h);
  };
  for (index_t j = 0; j < 5; ++j) {
    CHECK(dg(j, 0) ==
          Approx(difference(g, j, 0, [&] { test::upload_to<double>(be, g, layers[0].magnitude()); })).epsilon(1e-6));
    CHECK(download(be, dx[0].view())(j, 1) ==
          Approx(difference(moved, j, 1, [&] { test::upload_to<double>(be, moved, x[0].view()); })).epsilon(1e-6));
  }
}

TEST_CASE("a frozen pair that has not moved leaves dX alone, to the last bit, in wide layers too", "[adapter]") {
  auto be = test::make_backend();
  index_t const out = 1500, in = 80, tokens = 300, r = 64;
  dora<float, test::backend> ad(be, out, in, r, rank_stable_scaling{4});
  test::upload_to<float>(be, test::random(r, in, 1), ad.a());
  test::upload_to<float>(be, test::random(out, r, 2), ad.b());
  test::freeze(be, ad);
  auto dw = upload<float>(be, host(out, in)), dx = upload<float>(be, test::random(in, tokens, 4)),
       y = upload<float>(be, test::random(out, tokens, 5)), dy = upload<float>(be, test::random(out, tokens, 6)),
       grad = upload<float>(be, host(in, tokens));
  fill(be, dw.view(), 1);
  decltype(ad)::tape t;
  ad.forward(be, dw.view(), dx.view(), read_only(y.view()), y.view(), t);
  (void)ad.backward(be, dw.view(), dx.view(), dy.view(), t, 0.0, grad.view());
  CHECK(test::norm(download(be, grad.view())) == 0);
}
