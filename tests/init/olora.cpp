#include <loraga/init/olora.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

/// Q (out x r) and R (r x in) of W = Q*R, by Gram-Schmidt done twice; R's diagonal is positive.
std::pair<host, host> naive_qr(host const& w, index_t r) {
  host q = test::columns(w, 0, r);
  for (index_t j = 0; j < r; ++j) {
    for (int round = 0; round < 2; ++round)
      for (index_t p = 0; p < j; ++p) {
        double const dot = test::inner(test::columns(q, p, 1), test::columns(q, j, 1));
        for (index_t i = 0; i < q.rows; ++i) q(i, j) -= dot * q(i, p);
      }
    double const length = test::norm(test::columns(q, j, 1));
    for (index_t i = 0; i < q.rows; ++i) q(i, j) /= length;
  }
  return {q, test::transpose(q) * w};
}

}  // namespace

TEST_CASE("OLoRA is the QR factorisation of W, tall and wide, in single and half precision", "[init]") {
  for (auto const& [out, in] : {std::pair{30, 20}, {20, 30}}) {
    auto be = test::make_backend();
    host const w = test::random(out, in, 3, 0.2);
    auto dw = test::upload<float>(be, w);
    auto const [q, r] = naive_qr(w, 4);
    lora<float, test::backend> ad(be, out, in, 4, classic_scaling{8});
    lora<fp16, test::backend> narrow(be, out, in, 4, classic_scaling{8});
    initialise(be, narrow, olora_init{}, dw.view(), frozen_pair_anchor{});
    CHECK(test::distance(test::download(be, narrow.b()), q) < 1e-3);
    CHECK(test::distance(test::download(be, narrow.a()), r) < 2e-3);
    initialise(be, ad, olora_init{}, dw.view(), in_place_anchor{});
    CHECK(test::distance(test::download(be, ad.b()), q) < 1e-5);
    CHECK(test::distance(test::download(be, ad.a()), r) < 1e-5);
    CHECK(test::distance(test::download(be, dw.view()), w - 2.0 * (q * r)) < 1e-5);  // s = 2 is not divided out
  }
  test::check_anchored_start(30, 20, 4, olora_init{});
}

TEST_CASE("OLoRA of a W with dependent columns: B is orthonormal, B*A is W's part in their span", "[init]") {
  auto be = test::make_backend();
  host w = test::random(30, 20, 3);
  for (index_t i = 0; i < 30; ++i) w(i, 1) = 2 * w(i, 0), w(i, 3) = 0;
  auto dw = test::upload<float>(be, w);
  lora<float, test::backend> ad(be, 30, 20, 4, classic_scaling{});
  initialise(be, ad, olora_init{}, dw.view(), frozen_pair_anchor{});
  host const a = test::download(be, ad.a()), b = test::download(be, ad.b());
  CHECK(test::orthonormality(b) < 1e-5);
  CHECK(test::distance(b * a, b * test::transpose(b) * w) < 1e-4);
  host const leading = test::columns(w, 0, 4);
  CHECK(test::distance(b * test::transpose(b) * leading, leading) < 1e-4);
  auto zero = test::upload<float>(be, host(30, 20));
  initialise(be, ad, olora_init{}, zero.view(), frozen_pair_anchor{});
  CHECK(test::orthonormality(test::download(be, ad.b())) < 1e-5);
}

TEST_CASE("OLoRA refuses too large a rank, no W, and W that is not finite; other layers start", "[init]") {
  auto be = test::make_backend();
  auto w = test::upload<float>(be, test::random(6, 5, 1)), bad = test::upload<float>(be, host(6, 5, INFINITY));
  using adapter = lora<float, test::backend>;
  adapter wide(be, 6, 5, 6, classic_scaling{}), good(be, 6, 5, 2, classic_scaling{}),
      ad(be, 6, 5, 2, classic_scaling{});
  CHECK_THROWS_AS(initialise(be, wide, olora_init{}, w.view(), in_place_anchor{}), shape_error);
  CHECK_THROWS_AS(initialise(be, ad, olora_init{}, test::view<float>{}, frozen_pair_anchor{}), value_error);
  using layer_of = layer<adapter, test::view<float>>;
  layer_of const layers[] = {{&ad, bad.view(), nullptr, "bad"}, {&good, w.view(), nullptr, "good"}};
  CHECK_THROWS_WITH(initialise(be, std::span<layer_of const>(layers), olora_init{}, in_place_anchor{}),
                    Catch::Contains("bad is not finite") && !Catch::Contains("good"));
  CHECK(test::largest(test::download(be, ad.b())) == 0);
  CHECK(test::largest(test::download(be, good.b())) > 0);
}
