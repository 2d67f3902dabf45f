// Ranks that talk by NCCL: each call gives what the concept says, and what the library does by them is what it does by
// the loop-back communicator.
#include "../support/catch.hpp"
#include "../support/nccl_ranks.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

/// Five numbers on the device, of which calls get the middle three: what stands around them must stay.
template <class T>
struct guarded {
  matrix<T, backend> m;
  guarded(backend& be, double first)
      : m(test::upload<T>(be, test::generate(5, 1, [&](index_t i, index_t) {
                            return i == 0 ? -7 : i == 4 ? -8 : first + static_cast<double>(i - 1);
                          }))) {}
  T* data() { return m.view().data + 1; }
  void tell(backend& be, std::vector<double>& values) { test::append(be, values, m.view()); }
};
template <class T>
std::byte* bytes_of(T* p) {
  return reinterpret_cast<std::byte*>(p);
}

std::vector<double> every_call(backend& be, nccl_communicator& comm) {
  std::vector<double> values;
  double const mine = 100.0 * (comm.rank() + 1);
  guarded<float> f(be, mine);
  guarded<double> d(be, mine);
  axpby(be, 1.0, f.m.view(), 0.0, f.m.view());  // work of the stream before the call
  comm.all_reduce(be, f.data(), 3);
  comm.all_reduce(be, d.data(), 3);
  comm.all_reduce(be, d.data(), 0);
  f.tell(be, values);
  d.tell(be, values);
  for (int root = 0; root < comm.size(); ++root) {
    guarded<float> b(be, mine);
    comm.broadcast(be, bytes_of(b.data()), 3 * sizeof(float), root);
    comm.broadcast(be, bytes_of(b.data()), 0, root);
    b.tell(be, values);
  }
  return values;
}
std::vector<double> every_call_expected(int ranks) {
  std::vector<double> values;
  double const n = ranks, all = 100.0 * n * (n + 1) / 2;
  for (int twice = 0; twice < 2; ++twice) values.insert(values.end(), {-7, all, all + n, all + 2 * n, -8});
  for (int root = 0; root < ranks; ++root) {
    double const theirs = 100.0 * (root + 1);
    values.insert(values.end(), {-7, theirs, theirs + 1, theirs + 2, -8});
  }
  return values;
}

/// Each of these ranks is the partner of the other one in a ring of pairs; a rank without one is its own.
int partner_of(int rank, int ranks) { return (rank ^ 1) < ranks ? rank ^ 1 : rank; }

template <class F>
void check_all(int n, std::vector<test::outcome> const& all, F const& expected) {
  for (std::size_t r = 0; r < all.size(); ++r) {
    INFO("rank " << r << " of " << n << ": " << all[r].error);
    CHECK(all[r].error.empty());
    CHECK(all[r].values == expected(static_cast<int>(r)));
  }
}

/// What a rank gave its accumulator, and A and B of starts that ranks share.
template <class C>
std::vector<double> combined_and_started(backend& be, C& comm) {
  std::vector<double> values;
  std::vector<dense_gradient<backend>> sums;
  std::vector<incremental_gradient<backend>> estimates;
  std::vector<lora<float, backend>> adapters;
  std::vector<matrix<float, backend>> weights;
  std::vector<layer<lora<float, backend>, test::view<float>, incremental_gradient<backend>>> layers;
  for (std::uint64_t l = 0; l < 3; ++l) {
    auto const seed = 10 * l + static_cast<std::uint64_t>(comm.rank());
    auto const dy = test::upload<float>(be, test::random(24, 9, seed)),
               x = test::upload<float>(be, test::random(16, 9, seed + 50));
    sums.emplace_back(be, 24, 16).add_outer(be, dy.view(), x.view());
    estimates.emplace_back(be, 24, 16, gradient_options{.rank = 4}).add_outer(be, dy.view(), x.view());
    adapters.emplace_back(be, 24, 16, 2, rank_stable_scaling{});
    weights.push_back(test::upload<float>(be, test::random(24, 16, 90 + l)));
  }
  combine(be, comm, sums, {.bytes = 2000});
  combine(be, comm, estimates);
  for (std::size_t l = 0; l < 3; ++l)
    layers.push_back({&adapters[l], weights[l].view(), &estimates[l], "layer-" + std::to_string(l)});
  using layer_of = typename decltype(layers)::value_type;
  initialise(be, std::span<layer_of const>(layers), lora_ga_init{}, frozen_pair_anchor{}, over_ranks(comm));
  for (std::size_t l = 0; l < 3; ++l) {
    matrix<float, backend> mean(be, 24, 16);
    sums[l].estimate(be, mean.view());
    test::append(be, values, mean.view());
    test::append(be, values, adapters[l].a());
    test::append(be, values, adapters[l].b());
  }
  return values;
}

}  // namespace

TEST_CASE("NCCL sums and broadcasts on the device, and nothing beside it", "[nccl]") {
  for (int const n : test::nccl_rank_counts())
    check_all(n, test::on_nccl_ranks(n, every_call), [&](int) { return every_call_expected(n); });
}

TEST_CASE("NCCL exchanges with a partner, also in one direction, or nothing", "[nccl]") {
  auto const exchange = [](backend& be, nccl_communicator& comm) {
    std::vector<double> values;
    int const partner = partner_of(comm.rank(), comm.size());
    for (index_t const from_even : {3, 0})
      for (index_t const from_odd : {2, 3, 0}) {
        if (partner == comm.rank() && from_even != from_odd) continue;  // what it sends is what it takes
        bool const even = comm.rank() % 2 == 0;
        auto const size = static_cast<index_t>(sizeof(double));
        guarded<double> out(be, 10 * comm.rank()), in(be, -100);
        comm.exchange(be, bytes_of(out.data()), size * (even ? from_even : from_odd), bytes_of(in.data()),
                      size * (even ? from_odd : from_even), partner);
        out.tell(be, values);
        in.tell(be, values);
      }
    return values;
  };
  auto const expected = [](int rank, int ranks) {
    std::vector<double> values;
    int const partner = partner_of(rank, ranks);
    for (int const from_even : {3, 0})
      for (int const from_odd : {2, 3, 0}) {
        if (partner == rank && from_even != from_odd) continue;
        double const mine = 10.0 * rank, theirs = 10.0 * partner;
        values.insert(values.end(), {-7, mine, mine + 1, mine + 2, -8, -7});
        for (int i = 0; i < 3; ++i)
          values.push_back(i < (rank % 2 == 0 ? from_odd : from_even) ? theirs + i : -100 + i);
        values.push_back(-8);
      }
    return values;
  };
  for (int const n : test::nccl_rank_counts())
    check_all(n, test::on_nccl_ranks(n, exchange), [&](int r) { return expected(r, n); });
}

TEST_CASE("NCCL gathers bytes of any length from the host", "[nccl]") {
  auto const gather = [](backend& be, nccl_communicator& comm) {
    std::vector<double> values;
    for (int const longer : {0, 1, 1000}) {
      std::vector<std::byte> const mine(static_cast<std::size_t>(longer * comm.rank()), std::byte(comm.rank() + 1));
      for (auto const& theirs : comm.all_gather(be, mine)) {
        values.push_back(static_cast<double>(theirs.size()));
        for (auto const b : theirs) values.push_back(static_cast<double>(b));
      }
    }
    return values;
  };
  auto const expected = [](int ranks) {
    std::vector<double> values;
    for (int const longer : {0, 1, 1000})
      for (int r = 0; r < ranks; ++r) {
        values.push_back(longer * r);
        values.insert(values.end(), static_cast<std::size_t>(longer * r), r + 1.0);
      }
    return values;
  };
  for (int const n : test::nccl_rank_counts())
    check_all(n, test::on_nccl_ranks(n, gather), [&](int) { return expected(n); });
}

TEST_CASE("estimates and starts over NCCL are those over the loop-back communicator", "[nccl]") {
  for (int const n : test::nccl_rank_counts()) {
    auto const all = test::on_nccl_ranks(n, [](backend& be, auto& comm) { return combined_and_started(be, comm); });
    auto const other = test::on_ranks(n, [](backend& be, auto& comm) { return combined_and_started(be, comm); });
    for (std::size_t r = 0; r < all.size(); ++r) {
      INFO("rank " << r << " of " << n << ": " << all[r].error << other[r].error);
      REQUIRE(all[r].values.size() == 3 * (24 * 16 + 2 * (24 + 16)));
      REQUIRE(all[r].values.size() == other[r].values.size());
      CHECK(all[r].values == all[0].values);
      double most = 0;
      for (std::size_t i = 0; i < all[r].values.size(); ++i)
        most = std::max(most, std::abs(all[r].values[i] - other[r].values[i]));
      CHECK(most < 1e-4);  // NCCL may add three ranks' numbers in another order
    }
  }
}
