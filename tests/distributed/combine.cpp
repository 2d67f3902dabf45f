#include <loraga/distributed/combine.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::host;

namespace {

/// Two layers' shapes, one wide and one tall.
layer_size const shapes[] = {{24, 40}, {33, 17}, {8, 50}};

struct micro_batch {
  host dy, x;
  double weight;
};
/// Micro-batch number `number` of a layer: a spectrum that falls, noise below it.
micro_batch batch_of(std::size_t layer, int number) {
  auto const s = shapes[layer];
  auto const seed = 100 * layer + static_cast<std::uint64_t>(number);
  auto const columns = static_cast<index_t>(5 + number % 3);
  host dy = test::random(s.out, columns, seed), x = test::random(s.in, columns, seed + 50);
  auto const base = test::random(s.out, 3, 7 + layer);
  for (index_t j = 0; j < columns; ++j)
    for (index_t i = 0; i < s.out; ++i) dy(i, j) = 0.05 * dy(i, j) + base(i, j % 3) * (3 - static_cast<double>(j % 3));
  return {dy, x, 1.0 + number % 2};
}
constexpr int batches = 8;

/// Accumulators of all layers, fed the batches that `mine` picks.
template <class G, class P>
std::vector<G> feed(test::backend& be, P const& mine) {
  std::vector<G> all;
  for (std::size_t l = 0; l < std::size(shapes); ++l) {
    if constexpr (std::is_constructible_v<G, test::backend&, index_t, index_t, gradient_options>)
      all.emplace_back(be, shapes[l].out, shapes[l].in, gradient_options{.rank = 4});
    else all.emplace_back(be, shapes[l].in);
    for (int b = 0; b < batches; ++b) {
      if (!mine(b)) continue;
      auto const one = batch_of(l, b);
      auto const dy = test::upload<float>(be, one.dy), x = test::upload<float>(be, one.x);
      if constexpr (requires { all.back().add_outer(be, dy.view(), x.view(), 1.0); })
        all.back().add_outer(be, dy.view(), x.view(), one.weight);
      else all.back().add(be, x.view(), one.weight);
    }
  }
  return all;
}

template <class G>
std::vector<double> numbers_of(test::backend& be, std::vector<G>& all) {
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

double largest_difference(std::vector<double> const& a, std::vector<double> const& b) {
  if (a.size() != b.size()) return 1e30;
  double most = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i])), size = std::max(size, std::abs(b[i]));
  return most / size;
}

/// Ranks that share the batches, the last one without any where there are three or more.
auto share_of(int rank, int ranks) {
  int const busy = ranks >= 3 ? ranks - 1 : ranks;
  return [=](int b) { return rank < busy && b % busy == rank; };
}

template <class G>
void check_combine(double tolerance) {
  auto be = test::make_backend(1);
  auto whole = feed<G>(be, [](int) { return true; });
  auto const expected = numbers_of(be, whole);
  for (int const n : test::rank_counts()) {
    auto const run = [&] {
      return test::on_ranks(n, [&](test::backend& on, auto& comm) {
        auto mine = feed<G>(on, share_of(comm.rank(), comm.size()));
        combine(on, comm, mine, {.bytes = 1000});
        return numbers_of(on, mine);
      });
    };
    auto const all = run(), again = run();
    for (std::size_t r = 0; r < all.size(); ++r) {
      INFO("rank " << r << " of " << n << ": " << all[r].error);
      CHECK(all[r].error.empty());
      CHECK(largest_difference(all[r].values, expected) < tolerance);
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
