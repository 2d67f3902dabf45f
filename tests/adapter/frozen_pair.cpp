#include <loraga/adapter/adalora.hpp>
#include <loraga/adapter/dora.hpp>
#include <loraga/adapter/embedding.hpp>
#include <loraga/adapter/frozen_pair.hpp>
#include <loraga/adapter/lora.hpp>
#include <loraga/adapter/lora_sb.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

/// What a pass of a paired adapter at its start leaves in Y and dX, which held other numbers.
template <class A, class T>
void check_exact_start(double dropout) {
  auto be = test::make_backend();
  index_t const out = 37, in = 29, tokens = 50, r = 3;
  A ad(be, out, in, r, classic_scaling{8}, {.dropout = dropout, .seed = 4});
  auto const a = upload<T>(be, test::random(r, in, 1)), b = upload<T>(be, test::random(out, r, 2));
  ad.freeze_start(be, a.view(), b.view());
  ad.start(be, a.view(), b.view());
  REQUIRE(ad.paired());
  ad.train(dropout == 0);
  auto w = upload<T>(be, test::random(out, in, 3)), x = upload<T>(be, test::random(in, tokens, 4)),
       dy = upload<T>(be, test::random(out, tokens, 5)), y = upload<T>(be, test::random(out, tokens, 6)),
       dx = upload<T>(be, test::random(in, tokens, 7));
  if constexpr (requires { ad.prepare(be, w.view()); }) {  // g/N is 1 for rounding of N alone; y holds no other W*X
    be.gemm(1.0, w.view(), x.view(), 0.0, y.view());
  }
  host const before = download(be, y.view()), before_dx = download(be, dx.view());
  typename A::tape t;
  ad.forward(be, w.view(), x.view(), y.view(), t);
  (void)ad.backward(be, w.view(), x.view(), dy.view(), t, 1.0, dx.view());
  CHECK(test::distance(download(be, y.view()), before) == 0);
  CHECK(test::distance(download(be, dx.view()), before_dx) == 0);
  for (auto const& p : ad.parameters()) CHECK(test::largest(download(be, p.gradient)) > 0);  // and yet it learns
  auto merged = upload<T>(be, download(be, w.view()));
  ad.add_change(be, merged.view());
  CHECK(test::distance(download(be, merged.view()), download(be, w.view())) == 0);
}
template <class T>
void check_exact_starts() {
  for (double const dropout : {0.0, 0.3}) {
    check_exact_start<lora<T, test::backend>, T>(dropout);
    check_exact_start<adalora<T, test::backend>, T>(dropout);
    check_exact_start<lora_sb<T, test::backend>, T>(dropout);
    check_exact_start<dora<T, test::backend>, T>(dropout);
  }
}

}  // namespace

TEST_CASE("a frozen pair is the difference of two products, and exactly 0 where they are the same", "[adapter]") {
  auto be = test::make_backend();
  auto const b = test::random(6, 2, 1), a = test::random(2, 5, 2), b0 = test::random(6, 2, 3),
             a0 = test::random(2, 5, 4);
  auto const db = upload<float>(be, b), da = upload<float>(be, a), db0 = upload<float>(be, b0),
             da0 = upload<float>(be, a0);
  auto const product = [&](auto const& sides) {
    matrix<float, test::backend> y(be, 6, 5);
    be.gemm(1.0, sides.left, sides.right, 0.0, y.view());
    return download(be, y.view());
  };
  for (auto const form : {pair_form::by_difference, pair_form::apart}) {
    scratch<test::backend> temporary(be);
    auto const sides = frozen_pair<float>(be, temporary, db.view(), da.view(), db0.view(), da0.view(), form);
    CHECK(sides.left.cols == 4);
    CHECK(test::distance(product(sides), b * a - b0 * a0) < 1e-5);
  }
  scratch<test::backend> temporary(be);
  auto const same = frozen_pair<float>(be, temporary, db.view(), da.view(), db.view(), da.view());
  CHECK(test::largest(product(same)) == 0);
  // a step that is small beside the factors is not lost in 16 bit: differences are formed before they are rounded
  host near = a;
  for (auto& x : near.data) x *= 1 + 1e-4;
  auto const dn = upload<float>(be, near);
  auto const fine = frozen_pair<bf16>(be, temporary, db.view(), dn.view(), db.view(), da.view());
  CHECK(test::norm(test::rows(download(be, fine.right), 2, 2) - (near - a)) < 0.004 * test::norm(near - a));
}

TEST_CASE("at a frozen start outputs and input gradients keep every bit, in every type and class", "[adapter]") {
  check_exact_starts<float>();
  check_exact_starts<bf16>();
  check_exact_starts<fp16>();
}

TEST_CASE("an embedding's frozen start keeps every bit, and its passes subtract it", "[adapter]") {
  auto be = test::make_backend();
  embedding<bf16, test::backend> e(be, 12, 9, 2, classic_scaling{4});
  test::upload_to<bf16>(be, test::random(2, 9, 1), e.adapter().a());
  test::upload_to<bf16>(be, test::random(12, 2, 2), e.adapter().b());
  test::freeze(be, e.adapter());
  auto const ids = test::upload_ids<std::int64_t>(be, {3, 0, 3, 8});
  auto y = upload<bf16>(be, test::random(12, 4, 3));
  host const before = download(be, y.view());
  e.forward(be, ids.view(), y.view());
  CHECK(test::distance(download(be, y.view()), before) == 0);
  test::upload_to<bf16>(be, test::random(12, 2, 5), e.adapter().b());
  e.adapter().values_changed(be);
  e.forward(be, ids.view(), y.view());
  host const change = test::change_of(be, e.adapter());
  host const expected = test::generate(12, 4, [&](index_t i, index_t t) {
    index_t const id[] = {3, 0, 3, 8};
    return before(i, t) + change(i, id[t]);
  });
  CHECK(test::norm(download(be, y.view()) - expected) < 0.004 * test::norm(expected));
}
