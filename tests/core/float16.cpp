#include <cmath>
#include <limits>
#include <loraga/core/float16.hpp>

#include "../support/catch.hpp"

using namespace loraga;

namespace {

/// The nearest of a format's values to x, ties to the even bit pattern, by trying all of them.
template <class T>
std::uint16_t nearest(float x) {
  double best = INFINITY;
  std::uint16_t bits = 0;
  for (std::uint32_t b = 0; b < 0x8000; ++b) {
    T t;
    t.bits = static_cast<std::uint16_t>(b);
    double const value = static_cast<double>(static_cast<float>(t));
    if (!std::isfinite(value)) continue;
    double const d = std::abs(value - std::abs(static_cast<double>(x)));
    if (d < best || (d == best && b % 2 == 0)) {
      best = d;
      bits = static_cast<std::uint16_t>(b);
    }
  }
  return static_cast<std::uint16_t>(bits | (std::signbit(x) ? 0x8000 : 0));
}

template <class T>
void check_round_trip() {
  for (std::uint32_t b = 0; b < 0x10000; ++b) {
    T t;
    t.bits = static_cast<std::uint16_t>(b);
    float const f = static_cast<float>(t);
    if (std::isnan(f)) CHECK(std::isnan(static_cast<float>(T(f))));
    else if (T(f).bits != t.bits) FAIL("pattern " << b << " does not survive");
  }
}

}  // namespace

TEST_CASE("every 16-bit pattern survives float and back", "[core]") {
  check_round_trip<bf16>();
  check_round_trip<fp16>();
}

TEST_CASE("known values", "[core]") {
  CHECK(bf16(1.f).bits == 0x3f80);
  CHECK(bf16(-2.5f).bits == 0xc020);
  CHECK(fp16(1.f).bits == 0x3c00);
  CHECK(fp16(65504.f).bits == 0x7bff);
  CHECK(fp16(65519.f).bits == 0x7bff);
  CHECK(fp16(65520.f).bits == 0x7c00);
  CHECK(fp16(5.9604645e-8f).bits == 0x0001);  // smallest subnormal
  CHECK(fp16(2.9802322e-8f).bits == 0x0000);  // half of it: tie to even
  CHECK(fp16(6.1035156e-5f).bits == 0x0400);  // smallest normal
  CHECK(fp16(std::numeric_limits<float>::infinity()).bits == 0x7c00);
  CHECK(bf16(-std::numeric_limits<float>::infinity()).bits == 0xff80);
  CHECK(std::isinf(static_cast<float>(bf16(3.4e38f))));
}

TEST_CASE("rounding is to nearest, ties to even", "[core]") {
  CHECK(bf16(1.00390625f).bits == 0x3f80);  // 1 + 2^-8: tie between 0x3f80 and 0x3f81
  CHECK(bf16(1.01171875f).bits == 0x3f82);  // 1 + 3*2^-8: tie between 0x3f81 and 0x3f82
  float const samples[] = {0.1f, -3.14159f, 1e-5f, 3e-8f, 4.5e-8f, 1234.567f, 6.0999e-5f, 60000.f, 2.00048828125f};
  for (float const x : samples) {
    CHECK(fp16(x).bits == nearest<fp16>(x));
    CHECK(bf16(x).bits == nearest<bf16>(x));
  }
}

TEST_CASE("a NaN stays a NaN, whatever its payload", "[core]") {
  float const small_payload = bits_as<float>(0x7f800001u);
  CHECK(std::isnan(static_cast<float>(bf16(small_payload))));
  CHECK(std::isnan(static_cast<float>(fp16(small_payload))));
}
