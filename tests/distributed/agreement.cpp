#include <loraga/distributed/agreement.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend;

TEST_CASE("ranks agree, and learn what each brings", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      auto const brought =
          agree(be, comm, "a test", "one line", std::string(static_cast<std::size_t>(comm.rank()), 'x'));
      std::vector<double> sizes;
      for (auto const& text : brought) sizes.push_back(static_cast<double>(text.size()));
      return sizes;
    });
    for (auto const& rank : all) {
      REQUIRE(rank.values.size() == static_cast<std::size_t>(n));
      for (int r = 0; r < n; ++r) CHECK(rank.values[static_cast<std::size_t>(r)] == r);
    }
  }
}

TEST_CASE("a difference is named by the line it is in", "[distributed]") {
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      bool const other = comm.rank() == n - 1;
      agree(be, comm, "a test", other ? "layer 0: 3x4\nlayer 1: 5x6\n" : "layer 0: 3x4\nlayer 1: 5x7\nlayer 2: 1x1\n");
      return std::vector<double>{};
    });
    for (auto const& rank : all)
      CHECK(rank.error ==
            "ranks: rank " + std::to_string(n - 1) +
                " is at a test with layer 1: 5x6, expected a test with layer 1: 5x7, as rank 0: all ranks "
                "make the same calls in the same order, for the same layers");
  }
}

TEST_CASE("a part that one rank leaves out is noticed", "[distributed]") {
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      together(be, comm, [&] {
        if (comm.rank() != 1) together(be, comm, [] {});
      });
      return std::vector<double>{};
    });
    for (auto const& rank : all) {
      CHECK(rank.error.find("rank 1 is at the end of `together`, expected the end of `together` inside of 1 more") !=
            std::string::npos);
      CHECK(rank.error == all[0].error);
    }
  }
}

TEST_CASE("several ranks fail at once: all say what the lowest says", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      return together(be, comm, [&]() -> std::vector<double> {
        if (comm.rank() % 2 == 0) throw value_error("bad number");
        throw 7;
      });
    });
    for (auto const& rank : all) CHECK(rank.error == "rank 0 of " + std::to_string(n) + ": bad number");
  }
}

TEST_CASE("together hands on results", "[distributed]") {
  auto const all = test::on_ranks(test::rank_counts().back(), [&](backend& be, auto& comm) {
    return std::vector<double>{together(be, comm, [&] { return 2.0 * comm.rank(); })};
  });
  for (std::size_t r = 0; r < all.size(); ++r) CHECK(all[r].values[0] == 2.0 * static_cast<double>(r));
}
