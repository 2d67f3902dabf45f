#include <loraga/distributed/streamed.hpp>

#include "../support/catch.hpp"
#include "samples.hpp"

using namespace loraga;
using test::backend;

namespace {

gradient_options const streamed_options{.rank = 3, .seed = 5};
constexpr int streamed_batches = 4;
constexpr index_t streamed_tokens = 25;

template <class G>
std::vector<double> streamed_numbers(backend& be, G const& all) {
  std::vector<double> values;
  for (index_t i = 0; i < all.size(); ++i) {
    values.push_back(all[i].weight());
    matrix<float, backend> mean(be, all[i].rows(), all[i].cols());
    all[i].estimate(be, mean.view());
    test::append(be, values, mean.view());
  }
  return values;
}

/// One process that sees every micro-batch whole.
std::vector<double> streamed_alone() {
  auto be = test::make_backend(1);
  model_gradient<backend> all(be, test::layer_sizes(), streamed_options);
  for (int b = 0; b < streamed_batches; ++b)
    for (std::size_t l = 0; l < test::layer_sizes().size(); ++l) {
      auto const [dy, x] = test::batch_of(l, b, streamed_tokens);
      all[static_cast<index_t>(l)].add_outer(be, test::upload<float>(be, dy).view(), test::upload<float>(be, x).view());
    }
  return streamed_numbers(be, all);
}

/// This rank's columns of every micro-batch, whose weight is their share. With three ranks or more the last has none.
template <class S>
void feed_streamed(backend& be, S& all, int rank, int ranks) {
  int const busy = test::busy_ranks(ranks);
  for (int b = 0; b < streamed_batches; ++b) {
    for (std::size_t l = 0; l < test::layer_sizes().size(); ++l) {
      auto const layer = static_cast<index_t>(l);
      if (rank >= busy) {
        all.add_nothing(be, layer);
        continue;
      }
      index_t const first = streamed_tokens * rank / busy, n = streamed_tokens * (rank + 1) / busy - first;
      auto const [dy, x] = test::batch_of(l, b, streamed_tokens);
      double const share = static_cast<double>(n) / streamed_tokens;
      all.add_outer(be, layer, test::upload<float>(be, (1 / share) * test::columns(dy, first, n)).view(),
                    test::upload<float>(be, test::columns(x, first, n)).view(), share);
    }
    all.flush(be);
  }
}

}  // namespace

TEST_CASE("a streamed estimate is that of one process on all ranks' micro-batches side by side", "[distributed]") {
  auto const expected = streamed_alone();
  for (int const n : test::rank_counts())
    for (index_t const bytes : {index_t{1}, index_t{1} << 20}) {  // each layer on its own; all together
      auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
        counted_communicator counted(comm);
        streamed_gradient<decltype(counted), backend> streamed(be, counted, test::layer_sizes(), streamed_options,
                                                               {.bytes = bytes});
        feed_streamed(be, streamed, comm.rank(), comm.size());
        auto values = streamed_numbers(be, streamed.estimate());
        values.push_back(static_cast<double>(counted.count.messages));
        values.push_back(counted.count.sent);
        return values;
      });
      // (out + in)*l numbers per micro-batch and layer, l = 12 + 16 but for 24 and 17, and two that say how heavy its
      // tokens are; in*l more in the first, which looks three times, with no more columns than its 25 tokens
      double const numbers = streamed_batches * (24.0 * (24 + 40) + 17.0 * (33 + 17) + 28.0 * (60 + 50) + 3 * 2) -
                             3 * (60 + 50) + 24 * 40 + 17 * 17 + 25 * 50;
      for (auto const& rank : all) {
        INFO(n << " ranks: " << rank.error);
        REQUIRE(rank.error.empty());
        CHECK(rank.values == all[0].values);
        auto values = rank.values;
        double const sent = values.back(), messages = values[values.size() - 2];
        values.resize(values.size() - 2);
        CHECK(test::largest_difference(values, expected) < 2e-5);
        // two of the three layers are narrow: on a device these are looked at, and the third goes without
        int const ways = std::is_same_v<backend::space, host_space> ? 1 : 2;
        if (bytes > 1) CHECK(messages == ways * (3 * streamed_batches + 1));
        CHECK(sent == Approx(2 * (1 - 1.0 / n) * 4 * numbers));
      }
    }
}

TEST_CASE("a streamed estimate refuses what does not fit, on all ranks", "[distributed]") {
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      streamed_gradient<std::remove_reference_t<decltype(comm)>, backend> streamed(be, comm, test::layer_sizes(),
                                                                                   streamed_options);
      return together(be, comm, [&] {
        if (comm.rank() != 1) streamed.add_nothing(be, 0);
        streamed.add_nothing(be, 1);
        streamed.flush(be);
        return std::vector<double>{};
      });
    });
    for (auto const& rank : all)
      CHECK(
          rank.error ==
          "ranks: rank 1 is at streamed_gradient::flush with layer 1: 33x17, width 12, power_steps 0, seed 5, expected "
          "streamed_gradient::flush with layer 0: 24x40, width 12, power_steps 0, seed 5, as rank 0: all ranks make "
          "the "
          "same calls in the same order, for the same layers");
  }
}

TEST_CASE("NaN on one rank flags the streamed estimate on all", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      streamed_gradient<std::remove_reference_t<decltype(comm)>, backend> streamed(be, comm, test::layer_sizes(),
                                                                                   streamed_options);
      feed_streamed(be, streamed, comm.rank(), comm.size());
      auto dy = test::random(test::layer_sizes()[1].out, 3, 1);
      if (comm.rank() == 0) dy(2, 1) = std::nan("");
      for (index_t l : {0, 1, 2}) {
        if (l == 1)
          streamed.add_outer(be, l, test::upload<float>(be, dy).view(),
                             test::upload<float>(be, test::random(test::layer_sizes()[1].in, 3, 2)).view());
        else streamed.add_nothing(be, l);
      }
      streamed.flush(be);
      auto const& e = streamed.estimate();
      return std::vector<double>{e[0].usable() ? 1.0 : 0, e[1].usable() ? 1.0 : 0, e[2].usable() ? 1.0 : 0};
    });
    for (auto const& rank : all) CHECK(rank.values == std::vector<double>{1, 0, 1});
  }
}

TEST_CASE("what one rank finds out about an update, all know", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      std::vector<int> flags{comm.rank() == n - 1 ? int{svd_not_converged} : int{svd_usable}, svd_usable};
      detail::many_ranks<std::remove_reference_t<decltype(comm)>>{comm, {}, comm.rank() == 0}.join_flags(be, flags);
      return std::vector<double>(flags.begin(), flags.end());
    });
    for (auto const& rank : all) CHECK(rank.values == std::vector<double>{svd_not_converged, svd_usable});
  }
}
