#include <loraga/init/lora_ga.hpp>

#include "../support/catch.hpp"
#include "cut_model.hpp"

namespace test::cut_model {

namespace {

/// What all ranks throw where the last one does something else; `spoil(be, model, comm)` does it.
template <class G, class F>
void check_sentence(std::string const& expected, F const& spoil) {
  for (int const n : rank_counts()) {
    auto const all = on_ranks(n, [&](backend& be, auto& comm) {
      model<G> mine(be, [&](std::size_t l) { return part_of(l, comm); });
      bool threw = false;
      std::string words;
      try {
        together(be, comm, [&] {
          if (comm.rank() == comm.size() - 1) spoil(be, mine);
          initialise_sharded(be, comm, mine.layers, lora_ga_init{}, frozen_pair_anchor{});
          sum_replicated(be, comm, mine.layers);
        });
      } catch (error const& failure) {
        threw = true;
        words = failure.what();
      }
      agree(be, comm, "after the fault");  // the ranks are still at one place
      if (!threw) throw std::runtime_error("nothing was thrown");
      if (mine.adapters[0].started()) words += " (but a layer has started)";
      throw std::runtime_error(words);
      return std::vector<double>();
    });
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      INFO("rank " << rank << " of " << n);
      CHECK_THAT(all[rank].error, Catch::Contains(expected));
      CHECK(all[rank].error == all[0].error);
    }
  }
}

}  // namespace

TEST_CASE("a rank that goes another way ends a sharded start on all ranks, in the same words", "[distributed]") {
  using dense = dense_gradient<backend>;
  using triplets = incremental_gradient<backend>;
  auto const poison = [](backend& be, auto& m) {
    auto const& p = m.parts[0];
    auto const bad = upload<float>(be, host(p.out(), p.in(), std::nan("")));
    m.gradients[0].reset(be);
    for (double const weight : {1.0, 2.0, 3.0}) m.gradients[0].add(be, bad.view(), weight);
  };
  check_sentence<dense>("layer 0 is not finite", poison);
  check_sentence<triplets>("layer 0 is not finite", poison);
  check_sentence<dense>("initialise_sharded(layer 1): gradient is an empty accumulator",
                        [](backend& be, auto& m) { m.gradients[1].reset(be); });
  check_sentence<dense>("initialise_sharded(layer 2): gradient is null",
                        [](backend&, auto& m) { m.layers[2].source = nullptr; });
  check_sentence<dense>("initialise_sharded(layer 1): adapter is that of layer 0",
                        [](backend&, auto& m) { m.layers[1].adapter = m.layers[0].adapter; });
  check_sentence<dense>("initialise_sharded(layer 0): adapter is ",
                        [](backend&, auto& m) { m.layers[0].part.count -= 1; });
  check_sentence<dense>("no room", [](backend&, auto&) { throw std::runtime_error("no room"); });
}

TEST_CASE("parts that are not the whole, and other micro-batches, are refused by all ranks", "[distributed]") {
  using dense = dense_gradient<backend>;
  for (int const n : rank_counts()) {
    if (n == 1) continue;
    auto const sentence = [&](auto const& spoil) {
      auto const all = on_ranks(n, [&](backend& be, auto& comm) {
        model<dense> mine(be, [&](std::size_t l) { return part_of(l, comm); });
        if (comm.rank() == 1) spoil(be, mine);
        initialise_sharded(be, comm, mine.layers, lora_ga_init{}, frozen_pair_anchor{});
        return std::vector<double>();
      });
      for (auto const& one : all) CHECK(one.error == all[0].error);
      return all[0].error;
    };
    CHECK_THAT(sentence([](auto&, auto& m) { m.layers[0].part.first -= 1; }),
               Catch::Contains("initialise_sharded(layer 0): the part of rank 1 is rows"));
    CHECK_THAT(sentence([](auto& be, auto& m) { m.gradients[3].add(be, m.gradients[3].sum(), 1.0); }),
               Catch::Contains("of 4 micro-batches of weight 7.0"));
    CHECK_THAT(sentence([](auto&, auto& m) { m.layers[4].part.side = shard_side::rows; }), Catch::Contains("layer 4"));
    CHECK_THAT(sentence([](auto&, auto& m) { m.layers.pop_back(); }), Catch::Contains("nothing more"));
  }
}

TEST_CASE("sum_replicated refuses other layers, and gradients are as they were", "[distributed]") {
  using dense = dense_gradient<backend>;
  for (int const n : rank_counts()) {
    if (n == 1) continue;
    auto const all = on_ranks(n, [&](backend& be, auto& comm) {
      model<dense> mine(be, [&](std::size_t l) { return part_of(l, comm); });
      for (auto& ad : mine.adapters) fill(be, ad.gradient(), 1);
      if (comm.rank() == 1) mine.layers[2].adapter = nullptr;
      std::string words;
      try {
        sum_replicated(be, comm, mine.layers);
      } catch (rank_error const& failure) {
        words = failure.what();
      }
      if (words.find("rank 1 of " + std::to_string(n) + ": sum_replicated(layer 2): adapter is null") == words.npos)
        throw std::runtime_error("said " + words);
      return std::vector<double>{largest(download(be, mine.adapters[0].gradient()))};
    });
    for (auto const& one : all) {
      INFO(one.error);
      CHECK(one.values == std::vector<double>{1});
    }
  }
}

}  // namespace test::cut_model
