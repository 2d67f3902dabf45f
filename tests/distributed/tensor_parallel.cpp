#include <loraga/distributed/tensor_parallel.hpp>
#include <loraga/init/gaussian_pair.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/lora_ga.hpp>
#include <loraga/init/lora_one.hpp>
#include <loraga/optim/adamw.hpp>

#include "../support/catch.hpp"
#include "cut_model.hpp"

namespace test::cut_model {

namespace {

/// Sums a matrix over ranks.
template <class C>
host sum_over(backend& be, C& comm, host const& m) {
  auto d = upload<float>(be, m);
  comm.all_reduce(be, d.view().data, m.rows * m.cols);
  return download(be, d.view());
}

/// Largest differences of a rank's parts from the whole layer.
struct differences {
  double start = 0, unchanged = 0, forward = 0, backward = 0, gradients = 0, step = 0, merged = 0, weights = 0;
  std::vector<double> values() const { return {start, unchanged, forward, backward, gradients, step, merged, weights}; }
};
void raise_to(double& most, double value) { most = value > most || value != value ? value : most; }

/// Starts a whole model and parts of one, and trains both for a step.
template <class G, class C, class I, class... X>
std::vector<double> compare_training(backend& be, C& comm, I const& init, X const&... arguments) {
  model<G> whole(be, [&](std::size_t l) { return whole_of(l, comm); });
  model<G> mine(be, [&](std::size_t l) { return part_of(l, comm); });
  initialise(be, whole.plain(), init, arguments...);
  initialise_sharded(be, comm, mine.layers, init, arguments...);
  differences d;
  adamw<float, backend> whole_steps(be), steps(be);
  adamw_group const group{.learning_rate = 1, .epsilon = 10};
  auto const a = whole_steps.add_group(be, group), b = steps.add_group(be, group);
  auto const compare_factors = [&](std::size_t l, double& most) {
    auto const& p = mine.parts[l];
    auto &w = whole.adapters[l], &m = mine.adapters[l];
    raise_to(most, difference(download(be, m.a()), download(be, p.of_a(w.a()))));
    raise_to(most, distance(download(be, m.b()), download(be, p.of_b(w.b()))) / (1e-30 + largest(download(be, w.a()))));
  };
  for (std::size_t l = 0; l < mine.parts.size(); ++l) {
    auto const& p = mine.parts[l];
    auto &w = whole.adapters[l], &m = mine.adapters[l];
    compare_factors(l, d.start);
    raise_to(d.unchanged, largest(change_of(be, m)));
    raise_to(d.weights,
             difference(download(be, mine.weights[l].view()), weight_part(p, download(be, whole.weights[l].view()))));
    auto const hx = activation_of(l, 7, false), hdy = activation_of(l, 8, true);
    auto const pass = [&](low_rank& ad, auto weight, host const& x_host, host const& dy_host) {
      auto const x = upload<float>(be, x_host), dy = upload<float>(be, dy_host);
      matrix<float, backend> y(be, ad.out(), tokens), dx(be, ad.in(), tokens);
      fill(be, y.view(), 0);
      low_rank::tape tape;
      ad.forward(be, weight, x.view(), y.view(), tape);
      (void)ad.backward(be, weight, x.view(), dy.view(), tape, 0.0, dx.view());
      return std::pair(download(be, y.view()), download(be, dx.view()));
    };
    // at another place than the start, so that there is something to compare
    for (auto* ad : {&w, &m})
      scale_columns(be, upload<float>(be, random(r, 1, 77)).view(), ad->b()), ad->values_changed(be);
    auto const [y, dx] = pass(w, whole.weights[l].view(), hx, hdy);
    auto [my_y, my_dx] = pass(m, mine.weights[l].view(), cut(p, hx, false), cut(p, hdy, true));
    if (p.by_rows()) my_dx = sum_over(be, comm, my_dx);
    else my_y = sum_over(be, comm, my_y);
    raise_to(d.forward, distance(my_y, cut(p, y, true)) / (1e-30 + largest(y)));
    raise_to(d.backward, distance(my_dx, cut(p, dx, false)) / (1e-30 + largest(dx)));
    for (auto const& parameter : w.parameters()) whole_steps.add(be, a, parameter);
    for (auto const& parameter : m.parameters()) steps.add(be, b, parameter);
  }
  sum_replicated(be, comm, mine.layers, {.bytes = 500});
  whole_steps.step(be);
  steps.step(be);
  for (std::size_t l = 0; l < mine.parts.size(); ++l) {
    auto const& p = mine.parts[l];
    auto const whole_gradient = whole.adapters[l].parameters(), gradient = mine.adapters[l].parameters();
    raise_to(d.gradients,
             difference(download(be, gradient[0].gradient), download(be, p.of_a(whole_gradient[0].gradient))));
    raise_to(d.gradients,
             difference(download(be, gradient[1].gradient), download(be, p.of_b(whole_gradient[1].gradient))));
    compare_factors(l, d.step);
    whole.adapters[l].merge(be, whole.weights[l].view());
    mine.adapters[l].merge(be, mine.weights[l].view());
    raise_to(d.merged,
             difference(download(be, mine.weights[l].view()), weight_part(p, download(be, whole.weights[l].view()))));
  }
  return d.values();
}

/// Runs it on every number of ranks; `loss` bounds all that follows from the start.
template <class G, class... X>
void check_training(double loss, bool anchored, X const&... arguments) {
  for (int const n : rank_counts()) {
    auto const all = on_ranks(n, [&](backend& be, auto& comm) { return compare_training<G>(be, comm, arguments...); });
    for (std::size_t rank = 0; rank < all.size(); ++rank) {
      INFO("rank " << rank << " of " << n << ": " << all[rank].error);
      REQUIRE(all[rank].error.empty());
      char const* const names[] = {"start",     "unchanged", "forward", "backward",
                                   "gradients", "step",      "merged",  "weights"};
      for (std::size_t i = 0; i < std::size(names); ++i) {
        INFO(names[i]);
        CHECK(all[rank].values[i] <= (i == 1 ? (anchored ? 0.0 : 1e30) : loss));
      }
    }
  }
}

}  // namespace

TEST_CASE("parts of a layer start and train as the whole layer does", "[distributed]") {
  using dense = dense_gradient<backend>;
  check_training<dense>(2e-5, true, lora_ga_init{}, frozen_pair_anchor{});
  check_training<dense>(2e-5, false, lora_ga_init{}, in_place_anchor{}, gram{});
  check_training<sign_gradient<backend>>(2e-5, false, lora_one_init{}, no_anchor{});
}
TEST_CASE("random starts of parts are those of the whole", "[distributed]") {
  check_training<dense_gradient<backend>>(2e-5, false, gaussian_pair_init{}, frozen_pair_anchor{});
}
TEST_CASE("parts of incremental estimates become the whole's, within their loss", "[distributed]") {
  check_training<incremental_gradient<backend>>(1e-3, true, lora_ga_init{}, frozen_pair_anchor{});
}

TEST_CASE("an adapter without a source, of 16 bit, starts bit for bit as its part of the whole", "[distributed]") {
  for (int const n : rank_counts()) {
    auto const all = on_ranks(n, [&](backend& be, auto& comm) {
      using small = lora<bf16, backend>;
      std::vector<double> values;
      std::vector<small> wholes, mine;
      std::vector<shard> parts;
      for (std::size_t l = 0; l < std::size(cut_layers); ++l) {
        auto const p = parts.emplace_back(part_of(l, comm));
        of_whole const scaling{classic_scaling{}, p};
        wholes.emplace_back(be, cut_layers[l].out, cut_layers[l].in, r, classic_scaling{});
        mine.emplace_back(be, p.out(), p.in(), r, scaling);
      }
      std::vector<layer<small>> plain;
      std::vector<sharded_layer<small>> layers;
      for (std::size_t l = 0; l < parts.size(); ++l) {
        plain.push_back({&wholes[l]});
        layers.push_back({&mine[l], parts[l]});
      }
      kaiming_init const init{.seed = 9};
      initialise(be, plain, init);
      initialise_sharded(be, comm, layers, init);
      for (std::size_t l = 0; l < parts.size(); ++l) {
        values.push_back(distance(download(be, mine[l].a()), download(be, parts[l].of_a(wholes[l].a()))));
        values.push_back(largest(download(be, mine[l].b())));
        values.push_back(mine[l].started() && largest(download(be, mine[l].a())) > 0 ? 0.0 : 1.0);
      }
      return values;
    });
    for (auto const& one : all) {
      INFO(one.error);
      CHECK(one.values == std::vector<double>(3 * std::size(cut_layers), 0.0));
    }
  }
}

namespace {

/// How far the whole estimate on each `root` is from g; what is wrong with its weight and count; whether it is there.
template <class C, class S>
void compare_whole(backend& be, C& comm, shard const& p, S const& source, host const& g, std::vector<double>& values) {
  for (int root = 0; root < comm.size(); root += 2) {
    auto const found = gather_estimate(be, comm, p, source, root);
    if (found.has_value() != (comm.rank() == root)) values.push_back(1e30);
    if (!found) continue;
    matrix<float, backend> to(be, g.rows, g.cols);
    found->estimate(be, to.view());
    values.push_back(difference(download(be, to.view()), g));
    values.push_back(std::abs(found->weight() - 3) + std::abs(static_cast<double>(found->count() - 2)));
    if constexpr (requires { found->state(); }) {
      auto const state = found->state();
      // one by one: nvcc 13.0 loses the range of a loop over both
      values.push_back(orthonormality(download(be, state.u)));
      values.push_back(orthonormality(download(be, state.v)));
      // parts of up to 6 rows or columns have lost nothing, others all behind 6 triplets
      bool lost = false;
      for (int k = 0; k < comm.size(); ++k)
        lost = lost || even_shard(p.side, p.whole_out, p.whole_in, k, comm.size()).count > 6;
      values.push_back(lost == (found->width() == 6) ? 0.0 : 1.0);
    }
  }
}

}  // namespace

TEST_CASE("the estimate of a whole layer comes together on one rank", "[distributed]") {
  for (int const n : rank_counts())
    for (std::size_t const l : {std::size_t{0}, std::size_t{1}}) {
      auto const all = on_ranks(n, [&](backend& be, auto& comm) {
        auto const p = part_of(l, comm);
        // rank 5, so that nothing is lost; the first rows and columns, with many ranks all of rank 0's, are 0
        host g = with_spectrum(cut_layers[l].out, cut_layers[l].in, geometric(5, 0.5), 3);
        for (index_t i = 0; i < g.rows; ++i)
          for (index_t j = 0; j < g.cols; ++j)
            if (i < 4 || j < 5) g(i, j) = 0;
        auto const mine = upload<float>(be, weight_part(p, g));
        gradient_options const options{.rank = 2, .width = 6};
        background_worker<backend> worker(be);
        incremental_gradient<backend> triplets(be, p.out(), p.in(), options);
        dense_gradient<backend> sum(be, p.out(), p.in());
        offloaded_gradient<backend> offloaded(worker, be, p.out(), p.in());
        background_gradient<incremental_gradient<backend>, backend> beside(worker, p.out(), p.in(), options);
        std::vector<double> values;
        auto const compare = [&](auto& source) {
          for (double const weight : {1.0, 2.0}) source.add(be, mine.view(), weight);
          compare_whole(be, comm, p, source, g, values);
        };
        compare(sum);
        compare(triplets);
        compare(offloaded);
        compare(beside);
        return values;
      });
      for (std::size_t rank = 0; rank < all.size(); ++rank) {
        INFO("rank " << rank << " of " << n << ": " << all[rank].error);
        CHECK(all[rank].error.empty());
        CHECK(all[rank].values.size() == (rank % 2 == 0 ? 14u : 0u));
        for (double const x : all[rank].values) CHECK(x < 1e-5);
      }
    }
}

TEST_CASE("with dropout, parts by rows draw the masks of the whole layer", "[distributed]") {
  for (int const n : rank_counts()) {
    auto const all = on_ranks(n, [&](backend& be, auto& comm) {
      auto const p = part_of(0, comm);
      lora_options const options{.dropout = 0.5, .seed = 3};
      of_whole const scaling{rank_stable_scaling{}, p};
      low_rank whole(be, p.whole_out, p.whole_in, r, rank_stable_scaling{}, options),
          mine(be, p.out(), p.in(), r, scaling, options);
      initialise(be, whole, gaussian_pair_init{}, unanchored{});
      mine.start(be, read_only(p.of_a(whole.a())), read_only(p.of_b(whole.b())));
      mine.values_changed(be);
      auto const x = upload<float>(be, random(p.in(), tokens, 4));
      auto const passed = [&](low_rank& ad) {
        matrix<float, backend> y(be, ad.out(), tokens);
        fill(be, y.view(), 0);
        low_rank::tape tape;
        ad.forward(be, x.view(), x.view(), y.view(), tape);
        return download(be, y.view());
      };
      auto const y = passed(whole);
      return std::vector<double>{difference(passed(mine), cut(p, y, true)), 1 / (1 + largest(y))};
    });
    for (auto const& one : all) {
      INFO(one.error);
      REQUIRE(one.values.size() == 2);
      CHECK(one.values[0] < 1e-5);
      CHECK(one.values[1] < 1);
    }
  }
}

TEST_CASE("parts are checked where they are made", "[distributed]") {
  auto be = make_backend(1);
  CHECK_THROWS_AS(even_shard(shard_side::rows, 3, 9, 0, 4), shape_error);
  CHECK_THROWS_AS(even_shard(shard_side::rows, 3, 9, 4, 4), value_error);
  CHECK(even_shard(shard_side::rows, 29, 9, 1, 3).text() == "rows 9..18 of 29x9");
  of_whole const scaling{classic_scaling{}, even_shard(shard_side::columns, 29, 9, 1, 3)};
  CHECK_THROWS_WITH(low_rank(be, 29, 9, 2, scaling),
                    Catch::Contains("of_whole: adapter is 29x9, expected 29x3: columns 3..5"));
  CHECK(low_rank(be, 29, 3, 2, scaling).scale() == 8);
}

}  // namespace test::cut_model
