#include <loraga/gradient/background.hpp>
#include <loraga/gradient/incremental.hpp>

#include "checks.hpp"

using namespace loraga;
using test::backend;

TEMPLATE_TEST_CASE("background_gradient follows its accumulator", "[gradient]", float, double) {
  auto be = test::make_backend();
  background_worker<backend> worker(be);
  auto const make = [&](backend&, index_t out, index_t in) {
    using G = incremental_gradient<backend, TestType>;
    return background_gradient<G, backend>(worker, out, in, gradient_options{.rank = 5});
  };
  test::check_accumulator<TestType>(make, 5e-3);
  test::check_accumulator_edges<TestType>(make);
}

TEST_CASE("in the background the bits are those of the foreground, and buffers may be reused at once", "[gradient]") {
  auto be = test::make_backend();
  auto const batches = test::sample(40, 30, 20, 6);
  background_worker<backend> worker(be);
  using G = incremental_gradient<backend>;
  gradient_options const options{.rank = 4, .seed = 3};
  G plain(be, 40, 30, options);
  background_gradient<G, backend> behind(worker, 40, 30, options);
  matrix<float, backend> dy(be, 40, 20), x(be, 30, 20);
  for (auto const& b : batches) {
    test::upload_to<float>(be, b.dy, dy.view());
    test::upload_to<float>(be, b.x, x.view());
    behind.add_outer(be, dy.view(), x.view(), b.weight);
    plain.add_outer(be, dy.view(), x.view(), b.weight);
    fill(be, dy.view(), NAN);
    fill(be, x.view(), NAN);
  }
  auto const got = behind.top(be, gram{}, 8), want = plain.top(be, gram{}, 8);
  CHECK(read_all(be, got[0].u) == read_all(be, want[0].u));
  CHECK(read_all(be, got[0].s) == read_all(be, want[0].s));
}

TEST_CASE("refused settings do not spoil the worker; layers may go before their work is done", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be);
  using G = incremental_gradient<backend>;
  using behind = background_gradient<G, backend>;
  CHECK_THROWS_AS(behind(worker, 10, 10, gradient_options{.rank = 0}), value_error);
  auto const dy = test::upload<float>(be, test::random(10, 5, 1)), x = test::upload<float>(be, test::random(12, 5, 2));
  {
    behind gone(worker, 10, 12, gradient_options{.rank = 2});
    gone.add_outer(be, dy.view(), x.view());
  }
  CHECK_NOTHROW(worker.join());
}

TEST_CASE("initialise takes it", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be);
  background_gradient<incremental_gradient<backend>, backend> g(worker, 40, 30, gradient_options{.rank = 4});
  test::add_all<float>(be, g, test::sample(40, 30, 20, 3), true);
  auto w = test::upload<float>(be, test::random(40, 30, 1));
  lora<float, backend> ad(be, 40, 30, 4, rank_stable_scaling{});
  initialise(be, ad, lora_ga_init{}, w.view(), gram{}, g, in_place_anchor{});
  CHECK(test::largest(test::download(be, ad.a())) > 0);
}
