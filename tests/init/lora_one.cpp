#include <loraga/init/lora_one.hpp>

#include "checks.hpp"

using namespace loraga;
using test::host;

namespace {

/// The best rank-r approximation.
host truncated(host const& g, index_t r) {
  auto const t = test::jacobi_svd(g);
  std::vector<double> const leading(t.s.begin(), t.s.begin() + r);
  return test::columns(t.u, 0, r) * test::diagonal(r, r, leading) * test::transpose(test::columns(t.v, 0, r));
}

}  // namespace

TEST_CASE("LoRA-One starts as a step down the gradient, split evenly; W stays", "[init]") {
  for (auto const& [out, in] : {std::pair{30, 20}, {20, 30}}) {
    test::fixture<> f(out, in, 4);
    lora<float, test::backend> ad(f.be, out, in, 4, rank_stable_scaling{16});
    initialise(f.be, ad, lora_one_init{.gamma = 32}, f.weight.view(), gram{}, f.gradient, no_anchor{});
    CHECK(!ad.paired());
    CHECK(!ad.anchored_in_place());
    CHECK(test::distance(test::download(f.be, f.weight.view()), f.w) < 1e-7);
    host const a = test::download(f.be, ad.a()), b = test::download(f.be, ad.b());
    auto const sigma = test::jacobi_svd(f.g).s;
    host const step = ad.scale() / (32 * sigma[0]) * truncated(f.g, 4);
    CHECK(test::distance(ad.scale() * (b * a), -1.0 * step) < 1e-5 * test::largest(step));
    host const spectrum = 1 / (32 * sigma[0]) * test::diagonal(4, 4, {sigma[0], sigma[1], sigma[2], sigma[3]});
    CHECK(test::distance(a * test::transpose(a), spectrum) < 1e-6);
    CHECK(test::distance(test::transpose(b) * b, spectrum) < 1e-6);
  }
}

TEST_CASE("LoRA-One moves the model at step 0, by default and without W at hand; an anchor takes that away", "[init]") {
  test::fixture<> f(30, 20, 4);
  auto const moved = [&](auto const& anchor) {
    return test::change_at_start(30, 20, 4, [&](auto& be, auto& ad, auto) {
      dense_gradient<test::backend> g(be, 30, 20);
      g.add(be, test::upload<float>(be, f.g).view());
      initialise(be, ad, lora_one_init{}, gram{}, g, anchor);
    });
  };
  CHECK(moved(no_anchor{}) > 0.01);
  CHECK(moved(frozen_pair_anchor{}) == 0);
  // a start without an anchor replaces an earlier one with a frozen pair
  lora<float, test::backend> ad(f.be, 30, 20, 4, rank_stable_scaling{});
  initialise(f.be, ad, lora_one_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  CHECK(ad.paired());
  initialise(f.be, ad, lora_one_init{}, gram{}, f.gradient, no_anchor{});
  CHECK(!ad.paired());
}

TEST_CASE("LoRA-One: the gradient's size does not enter; low rank leaves dead ranks; bad input is refused", "[init]") {
  test::fixture<> f(30, 20, 4), low(30, 20, 4, {2, 1});
  dense_gradient<test::backend> small(f.be, 30, 20), zero(f.be, 30, 20);
  small.add(f.be, test::upload<float>(f.be, 1e-6 * f.g).view());
  zero.add(f.be, test::upload<float>(f.be, host(30, 20)).view());
  lora<float, test::backend> ad(f.be, 30, 20, 4, rank_stable_scaling{}), same(f.be, 30, 20, 4, rank_stable_scaling{}),
      wide(f.be, 30, 20, 21, rank_stable_scaling{}), still(f.be, 30, 20, 4, rank_stable_scaling{0}),
      none(f.be, 30, 20, 4, rank_stable_scaling{});
  initialise(f.be, ad, lora_one_init{}, gram{}, f.gradient, no_anchor{});
  initialise(f.be, same, lora_one_init{}, gram{}, small, no_anchor{});
  initialise(f.be, still, lora_one_init{}, gram{}, f.gradient, no_anchor{});  // s = 0: the same factors, no effect
  host const a = test::download(f.be, ad.a());
  CHECK(test::distance(test::download(f.be, same.a()), a) < 1e-5);
  CHECK(test::distance(test::download(f.be, still.a()), a) == 0);
  CHECK_THROWS_AS(initialise(f.be, wide, lora_one_init{}, gram{}, f.gradient, no_anchor{}), shape_error);
  CHECK_THROWS_AS(initialise(f.be, none, lora_one_init{.gamma = 0}, gram{}, f.gradient, no_anchor{}), value_error);
  CHECK_THROWS_AS(initialise(f.be, none, lora_one_init{.gamma = NAN}, gram{}, f.gradient, no_anchor{}), value_error);
  CHECK_THROWS_AS(initialise(f.be, none, lora_one_init{}, gram{}, zero, no_anchor{}), numeric_error);
  CHECK(test::largest(test::download(f.be, none.a())) == 0);
  initialise(low.be, none, lora_one_init{}, gram{}, low.gradient, no_anchor{});
  host const b = test::download(low.be, none.b());
  CHECK(test::norm(test::columns(b, 2, 2)) < 1e-4);
  CHECK(test::norm(test::columns(b, 1, 1)) == Approx(std::sqrt(0.5 / 128)).epsilon(1e-4));
}
