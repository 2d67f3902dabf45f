#include <loraga/gradient/dense.hpp>

#include "checks.hpp"

namespace {

template <class T>
auto const make_dense = [](test::backend& be, loraga::index_t out, loraga::index_t in) {
  return loraga::dense_gradient<test::backend, T>(be, out, in);
};

}  // namespace

TEMPLATE_TEST_CASE("dense_gradient is the weighted mean", "[gradient]", float, double) {
  test::check_accumulator<TestType>(make_dense<TestType>, 1e-5);
  test::check_accumulator_edges<TestType>(make_dense<TestType>);
  auto be = test::make_backend();
  auto const batches = test::sample(12, 9, 20, 4);
  auto g = make_dense<TestType>(be, 12, 9);
  test::add_all<TestType>(be, g, batches, true);
  double const unit = std::is_same_v<TestType, double> ? 1e-13 : 1e-5;
  CHECK(test::distance(1 / g.weight() * test::download(be, g.sum()), test::mean_gradient(batches)) < unit);
  auto const r = g.top(be, loraga::gram{}, 9);
  double const energy = test::norm(test::mean_gradient(batches));
  CHECK(r.energy[0] == Approx(energy * energy).epsilon(1e-5));
}

TEST_CASE("16-bit micro-batches are summed in float", "[gradient]") {
  auto be = test::make_backend();
  auto g = make_dense<float>(be, 1, 1);
  auto const dw = test::upload<loraga::bf16>(be, test::host(1, 1, 1.0));
  for (int i = 0; i < 1000; ++i) g.add(be, dw.view());
  CHECK(test::download(be, g.sum())(0, 0) == 1000);  // a bf16 sum stops at 256
  auto const dy = test::upload<loraga::bf16>(be, test::host(1, 3, 1.0));
  auto const x = test::upload<loraga::fp16>(be, test::host(1, 3, 2.0));
  g.add_outer(be, dy.view(), x.view());
  CHECK(test::download(be, g.sum())(0, 0) == 1006);
}
