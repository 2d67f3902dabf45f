#include <loraga/distributed/combine.hpp>

#include "../support/catch.hpp"
#include "samples.hpp"

using namespace loraga;
using test::backend;

namespace {

constexpr int others_batches = 6;

/// Gives layer 1's micro-batches to add(dY, X, weight): those that `mine` picks.
template <class P, class F>
void give_others(backend& be, P const& mine, F const& add) {
  for (int b = 0; b < others_batches; ++b) {
    if (!mine(b)) continue;
    auto const one = test::batch_of(1, b, 6 + b % 2);
    auto const dy = test::upload<float>(be, one.dy), x = test::upload<float>(be, one.x);
    add(dy.view(), x.view(), 1.0 + b % 3);
  }
}
auto all_batches = [](int) { return true; };

template <class G>
std::vector<double> others_numbers(backend& be, G const& g) {
  std::vector<double> values{g.weight(), static_cast<double>(g.count())};
  matrix<float, backend> mean(be, g.rows(), g.cols());
  g.estimate(be, mean.view());
  test::append(be, values, mean.view());
  return values;
}

/// run(backend, which batches, join(accumulator)) on one process and on ranks: the same within `tolerance`.
template <class F>
void check_others(double tolerance, F const& run) {
  auto be = test::make_backend(1);
  auto const expected = run(be, all_batches, [](auto&) {});
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& on, auto& comm) {
      auto const mine = [&](int b) { return b % test::busy_ranks(n) == comm.rank(); };
      return run(on, mine, [&](auto& g) { combine(on, comm, g); });
    });
    for (auto const& rank : all) {
      INFO(n << " ranks: " << rank.error);
      CHECK(rank.error.empty());
      CHECK(test::largest_difference(rank.values, expected) < tolerance);
      CHECK(rank.values == all[0].values);
    }
  }
}

}  // namespace

TEST_CASE("gradients in host memory combine", "[distributed]") {
  check_others(1e-6, [](backend& be, auto const& mine, auto const& join) {
    background_worker<backend> worker(be);
    offloaded_gradient<backend> g(worker, be, 33, 17, {.panel_bytes = 500});
    give_others(be, mine, [&](auto dy, auto x, double weight) { g.add_outer(be, dy, x, weight); });
    join(g);
    return others_numbers(be, g);
  });
}

TEST_CASE("accumulators that work in the background combine", "[distributed]") {
  check_others(1e-6, [](backend& be, auto const& mine, auto const& join) {
    background_worker<backend> worker(be);
    background_gradient<dense_gradient<backend>, backend> g(worker, 33, 17);
    give_others(be, mine, [&](auto dy, auto x, double weight) { g.add_outer(be, dy, x, weight); });
    join(g);
    auto values = others_numbers(be, g.finished());
    values.insert(values.end(), {g.weight(), static_cast<double>(g.count())});
    return values;
  });
}

TEST_CASE("a model's gradients combine", "[distributed]") {
  check_others(2e-2, [](backend& be, auto const& mine, auto const& join) {
    model_gradient<backend> all(be, test::layer_sizes(), {.rank = 4});
    give_others(be, mine, [&](auto dy, auto x, double weight) { all[1].add_outer(be, dy, x, weight); });
    join(all);
    return others_numbers(be, all[1]);
  });
}

TEST_CASE("second passes within the same directions combine, others are refused", "[distributed]") {
  auto const first_pass = [](backend& be, std::uint64_t seed) {
    incremental_gradient<backend> first(be, 33, 17, {.rank = 2, .seed = seed});
    give_others(be, all_batches, [&](auto dy, auto x, double weight) { first.add_outer(be, dy, x, weight); });
    return first;
  };
  check_others(1e-6, [&](backend& be, auto const& mine, auto const& join) {
    projected_gradient<backend> g(be, first_pass(be, 1));
    give_others(be, mine, [&](auto dy, auto x, double weight) { g.add_outer(be, dy, x, weight); });
    join(g);
    return others_numbers(be, g);
  });
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      projected_gradient<backend> g(be, first_pass(be, comm.rank() == 1 ? 2 : 1));
      combine(be, comm, g);
      return std::vector<double>{};
    });
    for (auto const& rank : all) CHECK(rank.error.find("directions with check sum") != std::string::npos);
  }
}
