#include <loraga/distributed/buckets.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend;

namespace {

/// Matrices by columns, by rows, with gaps, as parts of others, and empty ones.
struct bucket_views {
  matrix<float, backend> a, b, c;
  std::vector<test::view<float>> all;
  bucket_views(backend& be, std::uint64_t seed)
      : a(test::upload<float>(be, test::random(7, 5, seed))),
        b(test::upload<float>(be, test::random(6, 9, seed + 1))),
        c(test::upload<float>(be, test::random(40, 3, seed + 2))) {
    all = {a.view(), b.view().transposed(), c.view().row_range(3, 11), a.view().columns(0, 0),
           c.view().row_range(20, 1)};
  }
  std::vector<double> numbers(backend& be) const {
    std::vector<double> values;
    for (auto const* m : {&a, &b, &c}) test::append(be, values, m->view());
    return values;
  }
};

}  // namespace

TEST_CASE("views are summed and handed round in buckets of any size, and nothing beside them changes",
          "[distributed]") {
  for (int const n : test::rank_counts())
    for (index_t const bytes : {1, 50, 300, 1 << 20}) {
      auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
        bucket_views mine(be, 10 * static_cast<std::uint64_t>(comm.rank()));
        all_reduce_views(be, comm, std::span<test::view<float> const>(mine.all), {.bytes = bytes});
        auto values = mine.numbers(be);
        bucket_views handed(be, 10 * static_cast<std::uint64_t>(comm.rank()));
        broadcast_views(be, comm, std::span<test::view<float> const>(handed.all), n - 1, {.bytes = bytes});
        auto const more = handed.numbers(be);
        values.insert(values.end(), more.begin(), more.end());
        return values;
      });
      auto be = test::make_backend(1);
      auto const begin = [&](int r) { return bucket_views(be, 10 * static_cast<std::uint64_t>(r)).numbers(be); };
      auto const last = begin(n - 1);
      for (int r = 0; r < n; ++r) {
        auto const& values = all[static_cast<std::size_t>(r)].values;
        INFO(n << " ranks, " << bytes << " bytes: " << all[static_cast<std::size_t>(r)].error);
        auto const own = begin(r);
        REQUIRE(values.size() == 2 * own.size());
        for (std::size_t i = 0; i < own.size(); ++i) {
          auto const row = i < 35 + 54 ? index_t{-1} : static_cast<index_t>((i - 35 - 54) % 40);  // of c
          bool const in_views = row < 0 || (row >= 3 && row < 14) || row == 20;
          double sum = 0;
          for (int q = 0; q < n; ++q) sum += begin(q)[i];
          CHECK(values[i] == Approx(in_views ? sum : own[i]).margin(1e-5));
          CHECK(values[own.size() + i] == (in_views ? last[i] : own[i]));
        }
      }
    }
}

TEST_CASE("as many matrices as fit travel in one message", "[distributed]") {
  auto const all = test::on_ranks(test::rank_counts().back(), [&](backend& be, auto& comm) {
    counted_communicator counted(comm);
    matrix<float, backend> m(be, 8, 100);
    fill(be, m.view(), 1);
    std::vector<test::view<float>> columns;
    for (index_t j = 0; j < 100; ++j) columns.push_back(m.view().columns(j, 1));
    std::vector<double> messages;
    for (index_t const bytes : {8 * 4, 8 * 4 * 10, 8 * 4 * 100}) {
      auto const before = counted.count.messages;
      all_reduce_views(be, counted, std::span<test::view<float> const>(columns), {.bytes = bytes});
      messages.push_back(static_cast<double>(counted.count.messages - before));
    }
    return messages;
  });
  for (auto const& rank : all) CHECK(rank.values == std::vector<double>{100, 10, 1});
}
