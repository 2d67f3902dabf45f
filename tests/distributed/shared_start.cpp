#include <loraga/distributed/shared_start.hpp>

#include "../support/catch.hpp"
#include "../support/ranks.hpp"

using namespace loraga;
using test::backend;

namespace {

/// Adapters of layers of several shapes, with their accumulators and weights.
struct started_model {
  using adapter = lora<float, backend>;
  std::vector<adapter> adapters;
  std::vector<dense_gradient<backend>> gradients;
  std::vector<matrix<float, backend>> weights;

  explicit started_model(backend& be) {
    for (auto const& [out, in] : {std::pair<index_t, index_t>{20, 30}, {30, 20}, {20, 30}, {9, 40}, {40, 40}}) {
      auto const seed = adapters.size();
      adapters.emplace_back(be, out, in, 3, classic_scaling{});
      gradients.emplace_back(be, out, in);
      gradients.back().add(be, test::upload<float>(be, test::random(out, in, seed)).view());
      weights.push_back(test::upload<float>(be, test::random(out, in, seed + 50)));
    }
  }
  auto layers() {
    std::vector<layer<adapter, test::view<float>, dense_gradient<backend>>> all;
    for (std::size_t i = 0; i < adapters.size(); ++i) all.push_back({&adapters[i], weights[i].view(), &gradients[i]});
    return all;
  }
  std::vector<double> numbers(backend& be) {
    std::vector<double> values;
    for (std::size_t i = 0; i < adapters.size(); ++i) {
      test::append(be, values, adapters[i].a());
      test::append(be, values, adapters[i].b());
      test::append(be, values, weights[i].view());
    }
    return values;
  }
};

template <class I, class X>
void check_shared_start(I const& init, X const& anchor) {
  auto be = test::make_backend(1);
  started_model one(be);
  initialise(be, one.layers(), init, automatic_svd{}, anchor);
  auto const expected = one.numbers(be);
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& on, auto& comm) {
      counted_communicator counted(comm);
      started_model m(on);
      initialise(on, m.layers(), init, automatic_svd{}, anchor, over_ranks(counted));
      auto values = m.numbers(on);
      values.push_back(static_cast<double>(counted.count.messages));
      return values;
    });
    for (auto const& rank : all) {
      INFO(n << " ranks: " << rank.error);
      REQUIRE(rank.error.empty());
      auto values = rank.values;
      CHECK(values.back() <= std::min(n, 5));  // each owner sends once
      values.pop_back();
      if (test::batches_keep_bits) CHECK(values == expected);
      REQUIRE(values.size() == expected.size());
      for (std::size_t i = 0; i < expected.size(); ++i) REQUIRE(values[i] == Approx(expected[i]).margin(1e-4));
      CHECK(rank.values == all[0].values);
    }
  }
}

}  // namespace

TEST_CASE("a start that ranks share has the bits of one process", "[distributed]") {
  check_shared_start(lora_ga_init{}, in_place_anchor{});
  check_shared_start(lora_ga_init{}, frozen_pair_anchor{});
  check_shared_start(pissa_init{}, in_place_anchor{});
  check_shared_start(kaiming_init{}, frozen_pair_anchor{});
}

TEST_CASE("a lone adapter starts over ranks as well", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      lora<float, backend> ad(be, 9, 12, 3, classic_scaling{}, {.seed = 4});
      initialise(be, ad, kaiming_init{}, over_ranks(comm));
      std::vector<double> values;
      test::append(be, values, ad.a());
      return values;
    });
    auto be = test::make_backend(1);
    lora<float, backend> ad(be, 9, 12, 3, classic_scaling{}, {.seed = 4});
    initialise(be, ad, kaiming_init{});
    std::vector<double> expected;
    test::append(be, expected, ad.a());
    for (auto const& rank : all) CHECK(rank.values == expected);
  }
}
