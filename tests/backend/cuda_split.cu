#include <limits>
#include <loraga/cuda.cuh>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

double sum_of_parts(float x) {
  gpu::three_parts const p(x);
  return (as_double(p.low) + as_double(p.middle)) + as_double(p.high);
}
host as_bf16(host m) {
  for (auto& x : m.data) x = as_double(bf16(static_cast<float>(x)));
  return m;
}
host as_float(host m) {
  for (auto& x : m.data) x = static_cast<float>(x);
  return m;
}
double relative(host const& found, host const& right) { return test::norm(found - right) / test::norm(right); }

/// c = alpha*a*b + beta*c in the types of given views, by rows where asked for, against double.
template <class TA, class TB, class TC>
double split_error(index_t m, index_t n, index_t k, int by_rows, double beta) {
  auto be = test::make_backend();
  auto const held = [&](auto type, host const& h) {
    return std::is_same_v<decltype(type), bf16> ? as_bf16(h) : as_float(h);
  };
  host const a = held(TA(), test::random(m, k, 1)), b = held(TB(), test::random(k, n, 2)),
             c = held(TC(), test::random(m, n, 3));
  auto da = upload<TA>(be, by_rows & 1 ? test::transpose(a) : a);
  auto db = upload<TB>(be, by_rows & 2 ? test::transpose(b) : b);
  auto dc = upload<TC>(be, by_rows & 4 ? test::transpose(c) : c);
  auto const va = by_rows & 1 ? da.view().transposed() : da.view();
  auto const vb = by_rows & 2 ? db.view().transposed() : db.view();
  auto const vc = by_rows & 4 ? dc.view().transposed() : dc.view();
  be.gemm(0.5, va, vb, beta, vc);
  return relative(download(be, vc), 0.5 * (a * b) + beta * c);
}

}  // namespace

TEST_CASE("three bf16 numbers are a float, exactly", "[cuda]") {
  using limits = std::numeric_limits<float>;
  for (float const x :
       {0.0f, 1.0f, 1.0f / 3, -1e-30f, 3e38f, limits::max(), -limits::max(), 0x1.fffffep0f, 0x1.00ff01p9f})
    CHECK(sum_of_parts(x) == static_cast<double>(x));
  for (auto const x : test::random(1, 1000, 1).data)
    CHECK(sum_of_parts(static_cast<float>(x)) == static_cast<double>(static_cast<float>(x)));
  CHECK(sum_of_parts(limits::infinity()) == limits::infinity());
  CHECK(std::isnan(sum_of_parts(limits::quiet_NaN())));
}

TEST_CASE("thin float times bf16 is as exact as in float, in any layout", "[cuda]") {
  for (int by_rows = 0; by_rows < 8; ++by_rows) {
    CAPTURE(by_rows);
    for (double const beta : {0.0, 1.0}) {
      CHECK(split_error<float, bf16, float>(3, 50, 70, by_rows, beta) < 2e-6);
      CHECK(split_error<bf16, float, float>(50, 3, 70, by_rows, beta) < 2e-6);
      CHECK(split_error<float, float, bf16>(50, 60, 3, by_rows, beta) < 0x1p-9);
    }
  }
}

TEST_CASE("a sum of float products that cancels in bf16 keeps float's digits", "[cuda]") {
  auto be = test::make_backend();
  host const l = as_float(test::random(40, 1, 1)), r = as_float(test::random(1, 40, 2));
  host const near = as_float((1 + 0x1p-12) * l);
  host left(40, 2), right(2, 40);  // near*r - l*r = 2^-12*l*r
  for (index_t i = 0; i < 40; ++i) {
    left(i, 0) = near(i, 0), left(i, 1) = -l(i, 0);
    right(0, i) = right(1, i) = r(0, i);
  }
  auto const dl = upload<float>(be, left), dr = upload<float>(be, right);
  auto c = upload<bf16>(be, host(40, 40));
  be.gemm(1.0, dl.view(), dr.view(), 0.0, c.view());
  CHECK(relative(download(be, c.view()), left * right) < 0x1p-8);
}

TEST_CASE("what is not finite in a thin operand is not finite in the product", "[cuda]") {
  auto be = test::make_backend();
  host a(2, 40, 1.0);
  a(1, 7) = std::numeric_limits<double>::infinity();
  auto const da = upload<float>(be, a);
  auto const db = upload<bf16>(be, host(40, 40, 1.0));
  auto c = upload<float>(be, host(2, 40));
  be.gemm(1.0, da.view(), db.view(), 0.0, c.view());
  host const found = download(be, c.view());
  CHECK(found(0, 3) == 40);
  CHECK(std::isinf(found(1, 3)));
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("operands that are widened, are so in pieces", "[cuda]") {
  auto be = test::make_backend();
  matrix<fp16, test::backend> w(be, 8192, 16384), c(be, 8192, 16384);
  matrix<float, test::backend> a(be, 8, 8192), b(be, 16384, 8), at(be, 8, 16384), bt(be, 8192, 8);
  device_double::dry(true);
  auto const held = [&](auto const& task) {
    be.trim();
    task();
    return be.memory().held();
  };
  double const most = 2.0 * (64 << 20);
  CHECK(static_cast<double>(held([&] { be.gemm(1.0, a.view(), w.view(), 0.0, at.view()); })) <= most);
  CHECK(static_cast<double>(held([&] { be.gemm(1.0, w.view(), b.view(), 1.0, bt.view()); })) <= most);
  CHECK(static_cast<double>(held([&] { be.gemm(1.0, bt.view(), at.view(), 1.0, c.view()); })) <= most);
  device_double::dry(false);
}
#endif
