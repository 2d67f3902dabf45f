#include <loraga/distributed.hpp>

#include "../support/catch.hpp"
#include "samples.hpp"

// What ranks do wrong without an exception: settings of their own, the same thing twice, another order.

using namespace loraga;
using test::backend;

namespace {

/// Every rank runs f(backend, communicator) within `together`; the sentence that all end with.
template <class F>
std::string sentence_of(int n, F const& f) {
  auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
    return together(be, comm, [&] {
      f(be, comm);
      return std::vector<double>{};
    });
  });
  for (auto const& rank : all) CHECK(rank.error == all[0].error);
  return all[0].error;
}
bool speaks_of(std::string const& sentence, std::string const& words) {
  INFO(sentence);
  CHECK(sentence.find(words) != std::string::npos);
  return sentence.find(words) != std::string::npos;
}

}  // namespace

TEST_CASE("ranks with settings of their own are refused", "[distributed]") {
  for (int const n : test::rank_counts()) {
    if (n == 1) continue;
    layer_size const sizes[] = {{24, 40}};
    auto const streams = [&](auto const& options, auto const& bucket) {
      return sentence_of(n, [&](backend& be, auto& comm) {
        streamed_gradient<std::remove_reference_t<decltype(comm)>, backend> all(be, comm, sizes, options(comm.rank()),
                                                                                bucket(comm.rank()));
        all.add_nothing(be, 0);
        all.flush(be);
      });
    };
    auto const usual = [](int) { return gradient_options{.rank = 2}; };
    auto const bucket = [](int) { return bucket_options{}; };
    CHECK(streams(usual, bucket).empty());
    speaks_of(streams([](int r) { return gradient_options{.rank = 2, .power_steps = r == 1 ? 1 : 0}; }, bucket),
              "power_steps 1");
    speaks_of(streams([](int r) { return gradient_options{.rank = 2, .seed = r == 1 ? 7u : 0u}; }, bucket), "seed 7");
    speaks_of(streams([](int r) { return gradient_options{.rank = 2, .width = r == 1 ? 5 : 0}; }, bucket), "width 5");
    speaks_of(streams(usual, [](int r) { return bucket_options{.bytes = r == 1 ? 1 << 22 : 1 << 23}; }),
              "messages of 4194304 bytes");
    speaks_of(sentence_of(n,
                          [&](backend& be, auto& comm) {
                            std::vector<dense_gradient<backend>> g;
                            g.emplace_back(be, 9, 7);
                            combine(be, comm, g, {.bytes = comm.rank() == 1 ? 1 : 1 << 20});
                          }),
              "messages of 1 bytes");
#ifndef __clang__
    auto const starts = [&](auto const& init) {
      return sentence_of(n, [&](backend& be, auto& comm) {
        std::vector<lora<float, backend>> adapters;
        for (int i = 0; i < 2; ++i) adapters.emplace_back(be, 9, 7, 2, classic_scaling{});
        std::vector const layers{layer{&adapters[0]}, layer{&adapters[1]}};
        initialise(be, layers, init(comm.rank()), over_ranks(comm));
      });
    };
    CHECK(starts([](int) { return kaiming_init{3}; }).empty());
    speaks_of(starts([](int r) { return kaiming_init{r == 1 ? 4u : 3u}; }), "settings of the initialiser");
#endif
  }
}

TEST_CASE("accumulators that are there twice, or not at all, are refused", "[distributed]") {
  for (int const n : test::rank_counts()) {
    speaks_of(sentence_of(n,
                          [&](backend& be, auto& comm) {
                            dense_gradient<backend> g(be, 9, 7);
                            std::vector const twice{&g, &g};
                            combine(be, comm, twice);
                          }),
              "accumulator 1 is number 0 as well, expected each once");
    speaks_of(sentence_of(n,
                          [&](backend& be, auto& comm) {
                            std::vector<incremental_gradient<backend>*> const none{nullptr};
                            combine(be, comm, none);
                          }),
              "accumulator 0 is null");
  }
}

TEST_CASE("an average refuses other gradients, and weights without a finite sum", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const averages = [&](auto const& order, double weight) {
      return sentence_of(n, [&](backend& be, auto& comm) {
        matrix<float, backend> a(be, 2, 6), b(be, 3, 4);
        fill(be, a.view(), 1);
        fill(be, b.view(), 2);
        gradient_average<backend> average;
        order(comm.rank(), average, a.view(), b.view());
        average.run(be, comm, weight);
      });
    };
    auto const usual = [](int, auto& average, auto a, auto b) { average.add(a), average.add(b); };
    CHECK(averages(usual, 1).empty());
    speaks_of(averages(usual, n == 1 ? INFINITY : 1.7e308),
              n == 1 ? "weight is inf" : "sum of all ranks' weights is inf");
    if (n == 1) continue;
    auto const swapped = [](int r, auto& average, auto a, auto b) {
      r == 1 ? (average.add(b), average.add(a)) : (average.add(a), average.add(b));
    };
    speaks_of(averages(swapped, 1), "shapes with check sum");
    auto const turned = [](int r, auto& average, auto a, auto b) {
      average.add(a), average.add(r == 1 ? test::view<float>{b.data, b.rows, b.cols, b.cols, 1} : b);
    };
    speaks_of(averages(turned, 1), "shapes with check sum");
  }
}

TEST_CASE("a layer's second micro-batch goes on top of the first, though nobody called flush", "[distributed]") {
  for (int const n : test::rank_counts()) {
    auto const all = test::on_ranks(n, [&](backend& be, auto& comm) {
      streamed_gradient<std::remove_reference_t<decltype(comm)>, backend> all_layers(be, comm, test::layer_sizes(),
                                                                                     {.rank = 4});
      auto x = test::host(40, 1), dy = test::host(24, 1);
      for (index_t i : {0, 1}) {
        x = test::host(40, 1), dy = test::host(24, 1);
        x(i, 0) = dy(i, 0) = 1;
        all_layers.add_outer(be, 0, test::upload<float>(be, dy).view(), test::upload<float>(be, x).view());
      }
      all_layers.flush(be);
      matrix<float, backend> mean(be, 24, 40);
      all_layers.estimate()[0].estimate(be, mean.view());
      auto const found = test::download(be, mean.view());
      return std::vector<double>{found(0, 0), found(1, 1), found(0, 1)};
    });
    for (auto const& rank : all) {
      INFO(rank.error);
      REQUIRE(rank.values.size() == 3);
      CHECK(rank.values[0] == Approx(0.5).margin(1e-5));
      CHECK(rank.values[1] == Approx(0.5).margin(1e-5));
      CHECK(rank.values[2] == Approx(0).margin(1e-5));
    }
  }
}

#ifndef LORAGA_TEST_MPI
TEST_CASE("a fault within a group of ranks ends the ranks of other groups as well", "[distributed]") {
  // Ranks 0 and 1 are one group, 2 and 3 another; rank 3 fails within its own.
  std::vector<std::shared_ptr<detail::loopback_meeting>> groups;
  for (int i = 0; i < 2; ++i) groups.push_back(std::make_shared<detail::loopback_meeting>(2));
  auto const all = test::on_ranks(4, [&](backend& be, auto& world) {
    int const rank = world.rank();
    loopback_communicator group(groups[static_cast<std::size_t>(rank / 2)], rank % 2);
    return together(be, world, [&] {
      together(be, group, [&] {
        if (rank == 3) throw std::runtime_error("no room");
      });
      agree(be, world, "something for all");
      return std::vector<double>{};
    });
  });
  for (auto const& rank : all) CHECK(rank.error == "rank 2 of 4: rank 1 of 2: no room");
}

TEST_CASE("who goes on after the ranks' end is told again, and touches nothing", "[distributed]") {
  std::vector<std::string> said(2);
  loopback_group(2).run([&](loopback_communicator& comm) {
    auto be = test::make_backend(1);
    if (comm.rank() == 0) return;  // gone
    for (int i = 0; i < 3; ++i) {
      std::vector<double> const one{1};
      try {
        comm.all_gather(be, std::as_bytes(std::span(one)));
      } catch (rank_error const& failure) {
        said[static_cast<std::size_t>(comm.rank())] += failure.what();
      }
    }
  });
  std::string const once = "rank 0 of 2 is gone";
  CHECK(said[1] == once + once + once);
}
#endif
