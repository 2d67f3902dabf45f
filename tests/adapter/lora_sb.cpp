#include <loraga/adapter/lora_sb.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/init/lora_sb.hpp>
#include <loraga/optim/adamw.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

using lora_sb64 = lora_sb<double, test::backend>;

/// s*(B*R*A - B0*A0), formed.
template <class A>
host change_with_r(test::backend& be, A& ad) {
  host c = download(be, ad.b()) * download(be, ad.r()) * download(be, ad.a());
  if (ad.paired()) c = c - download(be, ad.start_b()) * download(be, ad.start_a());
  return ad.scale() * c;
}
void move_r(test::backend& be, lora_sb64& ad, std::uint64_t seed = 3) {
  test::upload_to<double>(be, test::random(ad.rank(), ad.rank(), seed), ad.r());
}

}  // namespace

TEST_CASE("a new LoRA-SB does nothing and trains R alone", "[adapter]") {
  auto be = test::make_backend();
  lora_sb64 ad(be, 60, 50, 4, classic_scaling{32}, {.seed = 5});
  CHECK(test::largest(download(be, ad.r())) == 0);
  CHECK(test::norm(download(be, ad.a())) / std::sqrt(200.) == Approx(0.02).epsilon(0.15));
  CHECK(ad.parameters().size() == 1);
  CHECK(ad.gradient().rows == 16);
  CHECK_THROWS_AS(lora_sb64(be, 8, 8, index_t{1} << 40, classic_scaling{1}), value_error);
  host const x = test::random(50, 3, 4), w = test::random(60, 50, 3);
  auto dw = upload<double>(be, w), dx = upload<double>(be, x);
  lora_sb64::tape t;
  CHECK(test::distance(test::run_forward(be, ad, dw.view(), dx.view(), t), w * x) < 1e-12);
  test::check_gradients(
      be, ad, w, x, [] {}, 1e-6);
}

TEST_CASE("LoRA-SB's forward and backward", "[adapter]") {
  test::fixture<double> f(8, 6, 2);
  auto& be = f.be;
  host const x = test::random(6, 5, 4);
  auto dx = upload<double>(be, x);
  for (bool const pair : {false, true})
    for (double const p : {0.0, 0.4}) {
      lora_sb64 ad(be, 8, 6, 2, rank_stable_scaling{4}, {.dropout = p, .seed = 5});
      if (pair) initialise(be, ad, lora_sb_init{0.1}, gram{}, f.gradient, frozen_pair_anchor{});
      else initialise(be, ad, lora_sb_init{0.1}, gram{}, f.gradient, no_anchor{});
      move_r(be, ad);
      lora_sb64::tape t;
      if (p == 0)
        CHECK(test::distance(test::run_forward(be, ad, f.weight.view(), dx.view(), t),
                             (f.w + change_with_r(be, ad)) * x) < 1e-12);
      test::check_gradients(be, ad, f.w, x, [&] { ad.restart_dropout(be, 0); });
    }
}

TEST_CASE("LoRA-SB starts at the best approximation of AdamW's first step", "[adapter]") {
  test::fixture<> f(12, 9, 3);
  auto& be = f.be;
  sign_gradient<test::backend> gradient(be, 12, 9);
  gradient.add(be, upload<float>(be, f.g).view());
  lora_sb<float, test::backend> ad(be, 12, 9, 3, rank_stable_scaling{4});
  initialise(be, ad, lora_sb_init{.step = 0.01}, gram{}, gradient, no_anchor{});
  host const sign = test::generate(12, 9, [&](index_t i, index_t j) { return f.g(i, j) > 0 ? 1.0 : -1.0; });
  auto const t = test::jacobi_svd(sign);
  host const s = test::diagonal(3, 3, {t.s[0], t.s[1], t.s[2]});
  CHECK(test::distance(change_with_r(be, ad),
                       -0.01 * (test::columns(t.u, 0, 3) * s * transpose(test::columns(t.v, 0, 3)))) < 1e-6);
  CHECK(test::distance(download(be, ad.r()), 0.01 / ad.scale() * s) < 1e-6);
  host const a = download(be, ad.a()), b = download(be, ad.b());
  CHECK(test::distance(a * transpose(a), test::identity(3)) < 1e-5);
  CHECK(test::distance(transpose(b) * b, test::identity(3)) < 1e-5);

  adamw<float, test::backend> optimiser(be);
  add_adapter(be, optimiser, ad, {.learning_rate = 1e-2});
  auto dx = upload<float>(be, test::random(9, 7, 4)), y = upload<float>(be, test::random(12, 7, 5));
  decltype(ad)::tape tape;
  ad.forward(be, f.weight.view(), dx.view(), y.view(), tape);
  (void)ad.backward(be, f.weight.view(), dx.view(), y.view(), tape, 0.0, test::view<float>{});
  host const before = download(be, ad.r());
  optimiser.step(be);
  CHECK(test::distance(download(be, ad.r()), before) > 1e-3);
  CHECK(test::distance(download(be, ad.a()), a) == 0);
  CHECK(test::distance(download(be, ad.b()), b) == 0);
}

TEST_CASE("LoRA-SB takes any start and anchor; what lay off R's diagonal goes", "[adapter]") {
  test::fixture<float> f(12, 9, 3);
  auto& be = f.be;
  auto dx = upload<float>(be, test::random(9, 7, 4));
  matrix<float, test::backend> y(be, 12, 7);
  lora_sb<float, test::backend> ad(be, 12, 9, 3, rank_stable_scaling{}), placed(be, 12, 9, 3, rank_stable_scaling{});
  decltype(ad)::tape t;
  test::upload_to<float>(be, test::random(3, 3, 8), ad.r());
  lora<float, test::backend> plain(be, 12, 9, 3, rank_stable_scaling{});
  initialise(be, plain, pissa_init{}, f.weight.view(), gram{}, frozen_pair_anchor{});
  initialise(be, ad, pissa_init{}, f.weight.view(), gram{}, frozen_pair_anchor{});
  host const split = download(be, ad.b()) * (download(be, ad.r()) * download(be, ad.a()));
  CHECK(test::distance(split, download(be, plain.b()) * download(be, plain.a())) < 1e-5);
  CHECK(test::orthonormality(download(be, ad.b())) < 1e-5);
  fill(be, y.view(), 0);
  ad.forward(be, f.weight.view(), dx.view(), y.view(), t);
  CHECK(test::largest(download(be, y.view())) == 0);
  initialise(be, placed, pissa_init{}, f.weight.view(), gram{}, in_place_anchor{});
  CHECK(test::distance(download(be, f.weight.view()), f.w) > 0.01);
  CHECK(test::distance(download(be, f.weight.view()) + change_with_r(be, placed), f.w) < 1e-5);
  initialise(be, ad, kaiming_init{});  // B = 0: R = 0, and it can learn
  CHECK(test::largest(download(be, ad.r())) == 0);
  CHECK(test::largest(download(be, ad.b())) > 0);
}

TEST_CASE("16-bit LoRA-SB starts exactly, with a master of R alone", "[adapter]") {
  test::fixture<bf16> f(12, 10, 3);
  auto& be = f.be;
  lora_sb<bf16, test::backend> ad(be, 12, 10, 3, rank_stable_scaling{});
  initialise(be, ad, lora_one_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  auto dx = upload<bf16>(be, test::random(10, 7, 4)), y = upload<bf16>(be, host(12, 7)),
       dy = upload<bf16>(be, test::random(12, 7, 5));
  decltype(ad)::tape t;
  ad.forward(be, f.weight.view(), dx.view(), y.view(), t);
  CHECK(test::largest(download(be, y.view())) == 0);
  matrix<float, test::backend> grad_x(be, 10, 7);
  (void)ad.backward(be, f.weight.view(), dx.view(), dy.view(), t, 0.0, grad_x.view());
  CHECK(test::largest(download(be, grad_x.view())) == 0);
  auto const p = ad.parameters()[0];
  CHECK(test::largest(download(be, p.gradient)) > 0);
  CHECK(p.master.rows == 3);
  CHECK(test::distance(download(be, p.master), download(be, p.value)) == 0);
}

TEST_CASE("LoRA-SB's merge equals the adapter; unmerge takes it back", "[adapter]") {
  for (bool const pair : {false, true}) {
    test::fixture<double> f(12, 9, 3);
    auto& be = f.be;
    lora_sb64 ad(be, 12, 9, 3, rank_stable_scaling{4});
    if (pair) initialise(be, ad, lora_one_init{}, gram{}, f.gradient, frozen_pair_anchor{});
    move_r(be, ad);
    host const expected = f.w + change_with_r(be, ad);
    ad.merge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), expected) < 1e-13);
    move_r(be, ad, 9);
    ad.unmerge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-13);
  }
}
