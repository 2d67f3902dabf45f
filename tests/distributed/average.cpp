#include <loraga/distributed/average.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend;

TEST_CASE("gradients become the weighted mean of all ranks', in one message", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      counted_communicator counted(comm);
      std::vector<lora<float, backend>> adapters;
      adapters.emplace_back(be, 5, 7, 2, classic_scaling{});
      adapters.emplace_back(be, 4, 3, 2, classic_scaling{});
      auto head = test::upload<float>(be, test::random(3, 4, 90 + static_cast<std::uint64_t>(comm.rank())));
      gradient_average<backend> average;
      auto const rank = static_cast<std::uint64_t>(comm.rank());
      for (auto& ad : adapters) average.add(ad);
      average.add(head.view().transposed());
      for (std::size_t i = 0; i < adapters.size(); ++i)
        test::upload_to<float>(be, test::random(adapters[i].gradient().rows, 1, 10 * rank + i), adapters[i].gradient());
      bool const idle = n > 2 && comm.rank() == 1;  // its gradients are not looked at
      if (idle) fill(be, adapters[0].gradient(), std::nan(""));
      double const total = average.run(be, counted, idle ? 0 : 1 + comm.rank());
      std::vector<double> values{total, static_cast<double>(counted.count.messages), counted.count.sent};
      for (auto& ad : adapters) test::append(be, values, ad.gradient());
      test::append(be, values, head.view());
      return values;
    });
    double total = 0;
    auto expected0 = test::host(24, 1), head = test::host(3, 4);
    for (int r = 0; r < n; ++r) {
      if (n > 2 && r == 1) continue;
      auto const rank = static_cast<std::uint64_t>(r);
      total += 1 + r;
      expected0 = expected0 + (1.0 + r) * test::random(24, 1, 10 * rank);
      head = head + (1.0 + r) * test::random(3, 4, 90 + rank);
    }
    for (auto const& rank : all) {
      INFO(n << " ranks: " << rank.error);
      REQUIRE(rank.values.size() == 3 + 24 + 14 + 12);
      CHECK(rank.values[0] == total);
      CHECK(rank.values[1] == 1);
      CHECK(rank.values[2] == Approx(2 * (1 - 1.0 / n) * 4 * (24 + 14 + 12)));
      for (std::size_t i = 0; i < 24; ++i) CHECK(rank.values[3 + i] == Approx(expected0.data[i] / total).margin(1e-6));
      for (std::size_t i = 0; i < 12; ++i) CHECK(rank.values[41 + i] == Approx(head.data[i] / total).margin(1e-6));
      CHECK(rank.values == all[0].values);
    }
  }
}

TEST_CASE("an average refuses bad weights and adapters that are gone, on all ranks", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const refused = [&](auto const& weight, bool gone) {
      auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
        gradient_average<backend> average;
        {
          lora<float, backend> ad(be, 5, 7, 2, classic_scaling{});
          average.add(ad);
          ad.zero_gradient(be);
          if (!gone) average.run(be, comm, weight(comm.rank()));
        }
        if (gone) average.run(be, comm, 1);
        return std::vector<double>{};
      });
      for (auto const& rank : all) CHECK(rank.error == all[0].error);
      return all[0].error;
    };
    CHECK(refused([&](int r) { return r == n - 1 ? -1.0 : 1.0; }, false)
              .find("weight is -1.000000, expected finite and not negative") != std::string::npos);
    CHECK(refused([](int) { return 0.0; }, false).find("the sum of all ranks' weights is 0") != std::string::npos);
    CHECK(refused([](int) { return 1.0; }, true).find("an adapter is gone") != std::string::npos);
  }
}

TEST_CASE("dropout masks differ by rank, and follow the seed", "[distributed][adapter]") {
  auto be = test::make_backend();
  auto const pass = [&](int rank) {
    lora<float, backend> ad(be, 6, 40, 2, classic_scaling{}, {.dropout = 0.5, .seed = 3, .dropout_rank = rank});
    initialise(be, ad, orthogonal_init{}, unanchored{});
    auto const x = test::upload<float>(be, test::host(40, 9, 1.0)), w = test::upload<float>(be, test::host(6, 40));
    matrix<float, backend> y(be, 6, 9);
    fill(be, y.view(), 0);
    lora<float, backend>::tape tape;
    ad.forward(be, w.view(), x.view(), y.view(), tape);
    return test::download(be, y.view()).data;
  };
  CHECK(pass(0) == pass(0));
  CHECK(pass(1) == pass(1));
  CHECK(pass(0) != pass(1));
  CHECK(pass(1) != pass(2));
  CHECK_THROWS_AS((lora<float, backend>(be, 6, 4, 2, classic_scaling{}, {.dropout = 0.5, .dropout_rank = -1})),
                  value_error);
}
