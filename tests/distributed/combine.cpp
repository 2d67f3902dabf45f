#include <loraga/distributed/combine.hpp>

#include "../support/catch.hpp"
#include "samples.hpp"

using namespace loraga;

namespace {

constexpr int batches_to_combine = 8;

/// Accumulators of all layers, fed the batches that `mine` picks.
template <class G, class P>
std::vector<G> fed_accumulators(test::backend& be, P const& mine) {
  std::vector<G> all;
  auto const& shapes = test::layer_sizes();
  for (std::size_t l = 0; l < shapes.size(); ++l) {
    if constexpr (std::is_constructible_v<G, test::backend&, index_t, index_t, gradient_options>)
      all.emplace_back(be, shapes[l].out, shapes[l].in, gradient_options{.rank = 4});
    else all.emplace_back(be, shapes[l].in);
    for (int b = 0; b < batches_to_combine; ++b) {
      if (!mine(b)) continue;
      auto const one = test::batch_of(l, b, 5 + b % 3);
      double const weight = 1.0 + b % 2;
      auto const dy = test::upload<float>(be, one.dy), x = test::upload<float>(be, one.x);
      if constexpr (requires { all.back().add_outer(be, dy.view(), x.view(), 1.0); })
        all.back().add_outer(be, dy.view(), x.view(), weight);
      else all.back().add(be, x.view(), weight);
    }
  }
  return all;
}

template <class G>
std::vector<double> combined_numbers(test::backend& be, std::vector<G>& all) {
  std::vector<double> values;
  for (auto& g : all) {
    values.insert(values.end(), {g.weight(), static_cast<double>(g.count())});
    if constexpr (requires { g.scatter(); }) {
      test::append(be, values, g.scatter());
      test::append(be, values, g.mean());
    } else {
      matrix<float, test::backend> mean(be, g.rows(), g.cols());
      g.estimate(be, mean.view());
      test::append(be, values, mean.view());
    }
  }
  return values;
}

/// Ranks that share the batches, the last one without any where there are three or more.
auto share_of(int rank, int ranks) {
  int const busy = test::busy_ranks(ranks);
  return [=](int b) { return rank < busy && b % busy == rank; };
}

/// Numbers of ranks, and whether they share the batches: else the last one saw them all.
std::vector<std::pair<int, bool>> ways_to_share() {
  std::vector<std::pair<int, bool>> all;
  for (int const n : test::rank_counts()) all.insert(all.end(), {{n, true}, {n, false}});
  return all;
}

template <class G>
void check_combine(double tolerance) {
  auto be = test::make_backend(1);
  auto whole = fed_accumulators<G>(be, [](int) { return true; });
  auto const expected = combined_numbers(be, whole);
  for (auto const& [n, shared] : ways_to_share()) {
    auto const run = [&] {
      return test::on_ranks(n, [&](test::backend& on, auto& comm) {
        bool const last = comm.rank() + 1 == comm.size();
        auto const share = share_of(comm.rank(), comm.size());
        auto mine = fed_accumulators<G>(on, [&](int b) { return shared ? share(b) : last; });
        combine(on, comm, mine, {.bytes = 1000});
        return combined_numbers(on, mine);
      });
    };
    auto const all = run(), again = run();
    for (std::size_t r = 0; r < all.size(); ++r) {
      INFO("rank " << r << " of " << n << ": " << all[r].error);
      CHECK(all[r].error.empty());
      CHECK(test::largest_difference(all[r].values, expected) < tolerance);
      CHECK(all[r].values == all[0].values);
      CHECK(again[r].values == all[r].values);
    }
  }
}

}  // namespace

TEST_CASE("sums of many ranks are those of one process", "[distributed]") {
  check_combine<dense_gradient<test::backend>>(1e-6);
  check_combine<sign_gradient<test::backend>>(0.0 + 1e-12);
}
TEST_CASE("input statistics of many ranks are those of one process", "[distributed]") {
  check_combine<input_statistics<test::backend>>(1e-6);
}
TEST_CASE("incremental estimates of many ranks are those of one process, within their loss", "[distributed]") {
  check_combine<incremental_gradient<test::backend>>(2e-2);
}
