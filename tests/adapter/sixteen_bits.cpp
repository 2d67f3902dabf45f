#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/lora.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

constexpr index_t out_size = 60, in_size = 50, tokens_seen = 40, rank_used = 4;

struct sixteen_bit_pass {
  host y, dx, da, db;
};

/// A pass over given numbers, with A and B away from the frozen start where there is one.
template <class T, class A>
sixteen_bit_pass pass_of(test::backend& be, A& ad, host const& x, host const& dy) {
  auto const w = upload<T>(be, test::random(out_size, in_size, 3)), dx = upload<T>(be, x), ddy = upload<T>(be, dy);
  auto y = upload<T>(be, host(out_size, tokens_seen)), gx = upload<T>(be, host(in_size, tokens_seen));
  typename A::tape t;
  ad.zero_gradient(be);
  ad.forward(be, w.view(), dx.view(), y.view(), t);
  (void)ad.backward(be, w.view(), dx.view(), ddy.view(), t, 0.0, gx.view());
  auto const p = ad.parameters();
  return {download(be, y.view()), download(be, gx.view()), download(be, p[0].gradient), download(be, p[1].gradient)};
}
double relative_error(host const& found, host const& right) { return test::norm(found - right) / test::norm(right); }

/// The numbers as T holds them.
template <class T>
host as_held(test::backend& be, host const& m) {
  auto const d = upload<T>(be, m);
  return download(be, d.view());
}
/// A and B away from the frozen start, where there is one.
template <class T, class A>
void set_factors(test::backend& be, A& ad, bool paired) {
  auto const set = [&](host const& a, host const& b) {
    test::upload_to<typename A::value_type>(be, as_held<T>(be, a), ad.a());
    test::upload_to<typename A::value_type>(be, as_held<T>(be, b), ad.b());
    ad.values_changed(be);
  };
  host const a = test::random(rank_used, in_size, 1), b = test::random(out_size, rank_used, 2);
  set(a, b);
  if (!paired) return;
  test::freeze(be, ad);
  set(a + test::random(rank_used, in_size, 11, 0.05), b + test::random(out_size, rank_used, 12, 0.05));
}
/// Errors relative in norm; `unit` is what one rounding to T leaves at most.
void check_close(sixteen_bit_pass const& found, sixteen_bit_pass const& right, double unit) {
  CHECK(relative_error(found.y, right.y) < 2 * unit);
  CHECK(relative_error(found.dx, right.dx) < 2 * unit);
  CHECK(relative_error(found.da, right.da) < 2 * unit);
  CHECK(relative_error(found.db, right.db) < 2 * unit);
}
/// LoRA in T against the formulas in double, with the numbers that T holds.
template <class T>
void compare_lora(bool paired, double unit) {
  auto be = test::make_backend();
  lora<T, test::backend> ad(be, out_size, in_size, rank_used, classic_scaling{8});
  set_factors<T>(be, ad, paired);
  host const x = as_held<T>(be, test::random(in_size, tokens_seen, 4)),
             dy = as_held<T>(be, test::random(out_size, tokens_seen, 5));
  host const change = test::change_of(be, ad), a = download(be, ad.a()), b = download(be, ad.b());
  check_close(pass_of<T>(be, ad, x, dy),
              {change * x, transpose(change) * dy, ad.scale() * (transpose(b) * dy * transpose(x)),
               ad.scale() * (dy * transpose(a * x))},
              unit);
}
/// A float LoRA around activations in T against the formulas in double: gradients as in float, Y and dX rounded once.
template <class T>
void compare_float_lora(bool paired, double unit) {
  auto be = test::make_backend();
  lora<float, test::backend> ad(be, out_size, in_size, rank_used, classic_scaling{8});
  set_factors<float>(be, ad, paired);
  host const x = as_held<T>(be, test::random(in_size, tokens_seen, 4)),
             dy = as_held<T>(be, test::random(out_size, tokens_seen, 5));
  host const change = test::change_of(be, ad), a = download(be, ad.a()), b = download(be, ad.b());
  auto const found = pass_of<T>(be, ad, x, dy);
  CHECK(relative_error(found.y, change * x) < unit);
  CHECK(relative_error(found.dx, transpose(change) * dy) < unit);
  CHECK(relative_error(found.da, ad.scale() * (transpose(b) * dy * transpose(x))) < 2e-6);
  CHECK(relative_error(found.db, ad.scale() * (dy * transpose(a * x))) < 2e-6);
}
/// DoRA in T against DoRA in double, whose gradients tests/adapter/dora.cpp holds against differences.
void compare_dora(bool paired) {
  auto be = test::make_backend();
  dora<bf16, test::backend> narrow(be, out_size, in_size, rank_used, classic_scaling{8});
  dora<double, test::backend> wide(be, out_size, in_size, rank_used, classic_scaling{8});
  set_factors<bf16>(be, narrow, paired);
  set_factors<bf16>(be, wide, paired);
  host const x = as_held<bf16>(be, test::random(in_size, tokens_seen, 4)),
             dy = as_held<bf16>(be, test::random(out_size, tokens_seen, 5));
  check_close(pass_of<bf16>(be, narrow, x, dy), pass_of<double>(be, wide, x, dy), 0x1p-9);
}

/// The largest gradient of A when one row of B and one token's dY are all there is.
double gradient_of_a(test::backend& be, double s, double b, double dy) {
  lora<fp16, test::backend> ad(be, 64, 8, 1, constant_scaling{s});
  fill(be, ad.a(), 1);
  fill(be, ad.b(), b);
  ad.values_changed(be);
  auto x = upload<fp16>(be, host(8, 1, 1.0)), g = upload<fp16>(be, host(64, 1, dy)), y = upload<fp16>(be, host(64, 1));
  decltype(ad)::tape t;
  ad.forward(be, x.view(), x.view(), y.view(), t);
  (void)ad.backward(be, x.view(), x.view(), g.view(), t);
  return download(be, ad.parameters()[0].gradient)(0, 0);
}

}  // namespace

TEST_CASE("16-bit passes and gradients differ from double by a rounding or two", "[adapter]") {
  for (bool const paired : {false, true}) {
    CAPTURE(paired);
    compare_lora<bf16>(paired, 0x1p-9);
    compare_lora<fp16>(paired, 0x1p-12);
  }
}

TEST_CASE("float adapters around 16-bit activations have gradients as exact as float's", "[adapter]") {
  for (bool const paired : {false, true}) {
    CAPTURE(paired);
    compare_float_lora<bf16>(paired, 0x1p-9);
    compare_float_lora<fp16>(paired, 0x1p-12);
  }
}

TEST_CASE("DoRA's 16-bit passes and gradients differ from double by a rounding or two", "[adapter]") {
  compare_dora(false);
  compare_dora(true);
}

TEST_CASE("fp16 gradients: s keeps them in range, an overflow is seen, small ones stay", "[adapter]") {
  auto be = test::make_backend();
  // BT*dY is 64*64*1000 = 4e6, beyond fp16; with s it is 4e3
  CHECK(gradient_of_a(be, 1e-3, 64, 1000) == Approx(64 * 64 * 1000 * 1e-3).epsilon(1e-3));
  // 2^-24 is the least number of fp16, and half of its steps are lost in BT*dY alone
  CHECK(gradient_of_a(be, 256, 0x1p-10, 0x1p-20) == Approx(64 * 0x1p-22).epsilon(1e-3));
  double const beyond = gradient_of_a(be, 1, 64, 1000);
  if (std::is_same_v<inner_t<test::backend, fp16>, fp16>) CHECK(std::isinf(beyond));
  else CHECK(beyond == Approx(64 * 64 * 1000));
}
