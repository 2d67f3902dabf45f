#include <loraga/gradient/offloaded.hpp>

#include "checks.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

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

TEST_CASE("a sum on the host has the same bits for any number of threads and any panels", "[gradient]") {
  auto be = test::make_backend();
  index_t const rows = 521, cols = 307;  // 640 kB: three parts
  auto const first = test::upload<float>(be, test::random(rows, cols, 1)),
             second = test::upload<float>(be, test::random(rows, cols, 2));
  std::vector<float> expected;
  for (int const threads : {1, 2, 5})
    for (index_t const panel : {index_t{1} << 25, index_t{300000}}) {
      background_worker<backend> worker(be, 2, threads);
      offloaded_gradient<backend> sum(worker, be, rows, cols, {.panel_bytes = panel});
      for (int i = 0; i < 3; ++i) {  // panels of one sum follow each other closely
        sum.add(be, first.view(), 1.5);
        sum.add(be, second.view(), 0.25);
      }
      auto const total = sum.total();
      std::vector<float> const got(total.data, total.data + rows * cols);
      if (expected.empty()) expected = got;
      INFO(threads << " threads, panels of " << panel);
      CHECK(got == expected);
    }
}

#ifdef LORAGA_TEST_DOUBLE
TEST_CASE("a micro-batch costs an offloaded sum one copy and one wait of the side stream per panel", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be, 2, 2);
  offloaded_gradient<backend> sum(worker, be, 20, 30, {.panel_bytes = 20 * 4 * 10});  // three panels
  auto const dw = test::upload<float>(be, test::random(20, 30, 1));
  sum.add(be, dw.view());
  (void)sum.total();
  auto const before = device_double::counted();
  sum.add(be, dw.view());
  (void)sum.total();
  auto const did = device_double::counted() - before;
  CHECK(did.kernels == 3);
  CHECK(did.copies == 3);
  CHECK(did.copied_bytes == 20 * 30 * 4);
  CHECK(did.waits == 3);
}

TEST_CASE("a micro-batch that an offloaded sum took in part is refused until reset", "[gradient]") {
  auto be = test::make_backend();
  background_worker<backend> worker(be, 1, 2);
  offloaded_gradient<backend> sum(worker, be, 2, 3, {.panel_bytes = 8});  // a panel per column
  auto const dw = test::upload<float>(be, test::host(2, 3, 1.0));
  sum.add(be, dw.view());
  device_double::fail_next("cudaLaunchHostFunc", cudaErrorUnknown, 2);
  CHECK_THROWS_AS(sum.add(be, dw.view()), backend_error);
  CHECK_THROWS_AS(sum.total(), state_error);
  CHECK_THROWS_AS(sum.add(be, dw.view()), state_error);
  sum.reset(be);
  sum.add(be, dw.view());
  CHECK(sum.total()(1, 2) == 1);
  device_double::fail_next("cudaMemcpyAsync", cudaErrorUnknown, 2);  // on the worker's thread: that ends its work
  try {
    sum.add(be, dw.view());
  } catch (backend_error const&) {
  }
  CHECK_THROWS_AS(sum.total(), backend_error);
  device_double::forget_requests();
}
#endif
