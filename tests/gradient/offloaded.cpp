#include <loraga/gradient/offloaded.hpp>

#include "checks.hpp"

using namespace loraga;
using test::backend;

TEMPLATE_TEST_CASE("offloaded_gradient is the weighted mean, whatever the panels", "[gradient]", float, double) {
  auto be = test::make_backend();
  background_worker<backend> worker(be);
  for (index_t const panel : {index_t{1}, index_t{3000}, index_t{1} << 25}) {
    auto const make = [&](backend& b, index_t out, index_t in) {
      return offloaded_gradient<backend, TestType>(worker, b, out, in, {.panel_bytes = panel});
    };
    test::check_accumulator<TestType>(make, 1e-5);
    test::check_accumulator_edges<TestType>(make);
  }
}

TEST_CASE("a sum on the host is the dense one", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be, 1);
  auto const batches = test::sample(17, 23, 20, 4);
  offloaded_gradient<backend> home(worker, be, 17, 23, {.panel_bytes = 300});
  matrix<float, backend> dy(be, 17, 20), x(be, 23, 20);
  for (auto const& b : batches) {
    test::upload_to<float>(be, b.dy, dy.view());
    test::upload_to<float>(be, b.x, x.view());
    home.add_outer(be, dy.view(), x.view(), b.weight);
    fill(be, dy.view(), NAN);  // free to be overwritten
  }
  auto const total = home.total();
  test::host sum(17, 23);
  for (index_t j = 0; j < 23; ++j)
    for (index_t i = 0; i < 17; ++i) sum(i, j) = static_cast<double>(total(i, j)) / home.weight();
  CHECK(test::distance(sum, test::mean_gradient(batches)) < 1e-5);
  CHECK_THROWS_AS(offloaded_gradient<backend>(worker, be, 3, 3, {.panel_bytes = 0}), value_error);
}

TEST_CASE("16-bit micro-batches leave as float", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be);
  offloaded_gradient<backend> g(worker, be, 1, 1);
  auto const dw = test::upload<bf16>(be, test::host(1, 1, 1.0));
  for (int i = 0; i < 1000; ++i) g.add(be, dw.view());
  CHECK(g.total()(0, 0) == 1000);
}
