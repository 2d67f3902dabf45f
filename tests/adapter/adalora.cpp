#include <loraga/adapter/adalora_budget.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

using adalora64 = adalora<double, test::backend>;

template <class A>
host change(test::backend& be, A& ad) {
  host const e = download(be, ad.e());
  std::vector<double> d(e.data);
  host c = download(be, ad.b()) * test::diagonal(ad.rank(), ad.rank(), d) * download(be, ad.a());
  if (ad.paired()) c = c - download(be, ad.start_b()) * download(be, ad.start_a());
  return ad.scale() * c;
}
template <class A>
void move(test::backend& be, A& ad) {
  test::upload_to<double>(be, test::random(ad.rank(), ad.in(), 1, 0.3), ad.a());
  test::upload_to<double>(be, test::random(ad.out(), ad.rank(), 2, 0.3), ad.b());
  test::upload_to<double>(be, test::random(ad.rank(), 1, 3), ad.e());
}

}  // namespace

TEST_CASE("AdaLoRA begins with random factors and E = 0", "[adapter]") {
  auto be = test::make_backend();
  adalora64 ad(be, 60, 50, 4, adalora_scaling{32}, {.seed = 5}), other(be, 60, 50, 4, adalora_scaling{32}, {.seed = 6});
  CHECK(ad.scale() == 32 / (4 + 1e-5));
  CHECK(test::largest(download(be, ad.e())) == 0);
  CHECK(test::norm(download(be, ad.a())) / std::sqrt(200.) == Approx(0.02).epsilon(0.15));
  CHECK(test::norm(download(be, ad.b())) / std::sqrt(240.) == Approx(0.02).epsilon(0.15));
  CHECK(test::distance(download(be, ad.a()), download(be, other.a())) > 0.01);
  host const x = test::random(50, 3, 4), w = test::random(60, 50, 3);
  auto dw = upload<double>(be, w), dx = upload<double>(be, x);
  adalora64::tape t;
  CHECK(test::distance(test::run_forward(be, ad, dw.view(), dx.view(), t), w * x) < 1e-12);
  test::check_gradients(
      be, ad, w, x, [] {}, 1e-6);
}

TEST_CASE("AdaLoRA's forward and backward", "[adapter]") {
  test::fixture<double> f(8, 6, 2);
  auto& be = f.be;
  host const x = test::random(6, 5, 4);
  auto dx = upload<double>(be, x);
  for (bool const pair : {false, true}) {
    adalora64 ad(be, 8, 6, 2, rank_stable_scaling{4});
    if (pair) initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
    move(be, ad);
    adalora64::tape t;
    CHECK(test::distance(test::run_forward(be, ad, f.weight.view(), dx.view(), t), (f.w + change(be, ad)) * x) < 1e-12);
    test::check_gradients(be, ad, f.w, x, [] {});
    adalora64 dropping(be, 8, 6, 2, rank_stable_scaling{4}, {.dropout = 0.4, .seed = 5});
    move(be, dropping);
    test::check_gradients(be, dropping, f.w, x, [&] { dropping.restart_dropout(be, 0); });
  }
}

TEST_CASE("a start is split into unit factors and E; the model stays as it was", "[adapter]") {
  test::fixture<float> f(12, 9, 3);
  auto& be = f.be;
  lora<float, test::backend> plain(be, 12, 9, 3, rank_stable_scaling{});
  adalora<float, test::backend> ad(be, 12, 9, 3, rank_stable_scaling{});
  initialise(be, plain, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  host const a = download(be, ad.a()), b = download(be, ad.b()), e = download(be, ad.e());
  CHECK(test::distance(a * transpose(a), test::identity(3)) < 1e-5);
  CHECK(test::distance(transpose(b) * b, test::identity(3)) < 1e-5);
  double const c2 = std::sqrt(12.) / 16;  // c^2 of the stable scale, gamma = 16
  CHECK(test::distance(e, host(3, 1, c2)) < 1e-5);
  CHECK(test::distance(c2 * (b * a), download(be, plain.b()) * download(be, plain.a())) < 1e-5);
  auto dx = upload<float>(be, test::random(9, 7, 4)), y = upload<float>(be, test::random(12, 7, 5));
  host const before = download(be, y.view());
  decltype(ad)::tape t;
  ad.forward(be, f.weight.view(), dx.view(), y.view(), t);
  CHECK(test::distance(download(be, y.view()), before) == 0);
  // LoRA's start, B = 0: E = 0, and B can learn
  initialise(be, ad, kaiming_init{});
  CHECK(test::largest(download(be, ad.e())) == 0);
  CHECK(test::largest(download(be, ad.b())) > 0);
  CHECK(!ad.paired());
}

TEST_CASE("16-bit AdaLoRA starts exactly", "[adapter]") {
  test::fixture<bf16> f(12, 10, 3);
  auto& be = f.be;
  adalora<bf16, test::backend> ad(be, 12, 10, 3, rank_stable_scaling{});
  initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  auto dx = upload<bf16>(be, test::random(10, 7, 4)), y = upload<bf16>(be, host(12, 7)),
       dy = upload<bf16>(be, host(12, 7, 1));
  decltype(ad)::tape t;
  ad.forward(be, f.weight.view(), dx.view(), y.view(), t);
  CHECK(test::largest(download(be, y.view())) == 0);
  (void)ad.backward(be, f.weight.view(), dx.view(), dy.view(), t, 0.0, test::view<bf16>{});
  for (auto const& p : ad.parameters()) {
    CHECK(test::largest(download(be, p.gradient)) > 0);
    CHECK(test::distance(download(be, p.master), download(be, p.value)) == 0);
  }
}

TEST_CASE("a pruned triplet takes its start along", "[adapter]") {
  test::fixture<double> f(8, 6, 2);
  auto& be = f.be;
  adalora64 ad(be, 8, 6, 2, rank_stable_scaling{4});
  initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  auto keep = upload<double>(be, test::diagonal(2, 1, {0}));
  ad.prune(be, keep.view());  // both go, at the start
  CHECK(test::largest(download(be, ad.e())) == 0);
  CHECK(test::norm(change(be, ad)) == 0);
  initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  test::upload_to<double>(be, test::random(8, 2, 2, 0.3), ad.b());
  host const b = download(be, ad.b()), a = download(be, ad.a()), e = download(be, ad.e()),
             b0 = download(be, ad.start_b());
  test::upload_to<double>(be, test::generate(2, 1, [](index_t i, index_t) { return i == 1; }), keep.view());
  ad.prune(be, keep.view());
  host const expected = test::generate(8, 6, [&](index_t i, index_t j) {
    return ad.scale() * (b(i, 1) * e(1, 0) * a(1, j) - b0(i, 1) * download(be, ad.start_a())(1, j));
  });
  CHECK(test::distance(change(be, ad), expected) < 1e-13);
  CHECK_THROWS_AS(ad.prune(be, keep.view().row_range(0, 1)), shape_error);
}

TEST_CASE("AdaLoRA's merge equals the adapter; unmerge takes it back", "[adapter]") {
  for (bool const pair : {false, true}) {
    test::fixture<double> f(12, 9, 3);
    auto& be = f.be;
    adalora64 ad(be, 12, 9, 3, rank_stable_scaling{4});
    if (pair) initialise(be, ad, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
    move(be, ad);
    host const expected = f.w + change(be, ad);
    auto copy = upload<double>(be, f.w);
    ad.add_change(be, copy.view());
    ad.merge(be, f.weight.view());
    CHECK(test::distance(download(be, copy.view()), expected) < 1e-13);
    CHECK(test::distance(download(be, f.weight.view()), expected) < 1e-13);
    CHECK_THROWS_AS(ad.merge(be, f.weight.view()), state_error);
    auto keep = upload<double>(be, host(3, 1));
    CHECK_THROWS_AS(ad.prune(be, keep.view()), state_error);
    adalora_budget<double, test::backend> budget(be, {&ad}, {.initial_rank = 3, .target_rank = 1, .total = 9});
    CHECK(budget.kept() == 3);
    CHECK_THROWS_AS(budget.update(be), state_error);
    move(be, ad);
    fill(be, ad.e(), 9);
    ad.unmerge(be, f.weight.view());
    CHECK(test::distance(download(be, f.weight.view()), f.w) < 1e-13);
  }
}
