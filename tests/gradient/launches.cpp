#include <loraga/gradient/model_gradient.hpp>

#include "checks.hpp"
#ifdef LORAGA_TEST_DOUBLE
#include "../device_double/device_double.hpp"
#endif

// Updates of many layers at once, and what updates cost a GPU: launches, and that nothing waits.

using namespace loraga;
using test::backend;

namespace {

using estimate = incremental_gradient<backend>;
using update_view = matrix_view<float const, test::space>;
using update_part = estimate::layer_batch<update_view, update_view>;

/// Device copies of layers' micro-batches.
struct uploaded_batches {
  std::vector<matrix<float, backend>> dy, x;
  std::vector<double> weights;
  void add(backend& be, test::micro_batch const& b) {
    dy.push_back(test::upload<float>(be, b.dy));
    x.push_back(test::upload<float>(be, b.x));
    weights.push_back(b.weight);
  }
  std::vector<update_part> parts(std::vector<estimate>& into) {
    std::vector<update_part> all;
    for (std::size_t i = 0; i < dy.size(); ++i) all.push_back({&into[i], dy[i].view(), x[i].view(), weights[i]});
    return all;
  }
};

/// The share of the mean's leading energy that an estimate's left vectors leave out.
double energy_lost(backend& be, estimate const& g, test::host const& mean, index_t k) {
  auto const got = test::download_triplets(be, g.top(be, gram{}, k));
  auto const want = test::jacobi_svd(mean);
  double best = 0;
  for (index_t i = 0; i < k; ++i) best += want.s[static_cast<std::size_t>(i)] * want.s[static_cast<std::size_t>(i)];
  double const left = test::norm(test::transpose(got.u) * mean);
  return 1 - left * left / best;
}

}  // namespace

TEST_CASE("layers updated together have the estimates they have alone, whatever their shapes and weights",
          "[gradient]") {
  auto be = test::make_backend();
  struct layer {
    index_t out, in, tokens;
    int first;  // of its micro-batches
  };
  std::vector<layer> const layers{{40, 30, 25, 0}, {30, 40, 25, 1}, {40, 30, 25, 2}, {40, 30, 20, 0}, {40, 30, 25, 1}};
  for (int const power_steps : {0, 1, 2}) {
    INFO(power_steps << " power steps");
    gradient_options const options{.rank = 4, .power_steps = power_steps};
    std::vector<estimate> alone, together;
    for (auto const& l : layers)
      for (auto* all : {&alone, &together}) all->emplace_back(be, l.out, l.in, options);
    for (int step = 0; step < 3; ++step) {
      uploaded_batches now;
      for (auto const& l : layers) {
        auto batches = test::sample(l.out, l.in, l.tokens, 5, 0.3);
        now.add(be, batches[static_cast<std::size_t>(l.first + step)]);
      }
      auto const parts = now.parts(together);
      estimate::add_outer_all(be, std::span<update_part const>(parts));
      for (std::size_t i = 0; i < layers.size(); ++i)
        alone[i].add_outer(be, now.dy[i].view(), now.x[i].view(), now.weights[i]);
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      INFO("layer " << i);
      CHECK(together[i].usable());
      CHECK(together[i].count() == 3);
      CHECK(together[i].weight() == alone[i].weight());
      CHECK(together[i].turn() == Approx(alone[i].turn()).epsilon(1e-3));
      auto const one = test::read_estimate(be, alone[i]), other = test::read_estimate(be, together[i]);
      CHECK(test::distance(one, other) <= (test::batches_keep_bits ? 0 : 1e-4) * test::norm(one));
    }
  }
}

TEST_CASE("a layer that is not finite flags itself alone", "[gradient]") {
  auto be = test::make_backend();
  std::vector<estimate> all;
  for (int i = 0; i < 3; ++i) all.emplace_back(be, 20, 18, gradient_options{.rank = 2});
  auto const batches = test::sample(20, 18, 10, 3);
  for (bool const broken : {false, true, false}) {
    uploaded_batches now;
    for (auto b : batches) {
      b.weight = 1;
      if (broken && now.dy.size() == 1) b.dy(3, 4) = NAN;
      now.add(be, b);
    }
    auto const parts = now.parts(all);
    estimate::add_outer_all(be, std::span<update_part const>(parts));
  }
  CHECK(all[0].usable());
  CHECK(!all[1].usable());
  CHECK(all[1].top(be, gram{}, 2).flags[0] == svd_not_finite);
  CHECK(all[2].usable());
  CHECK(std::isfinite(test::norm(test::download(be, all[1].state().u))));  // what was there before is kept
  test::check_top(batches[0].gradient(), test::download_triplets(be, all[0].top(be, gram{}, 4)), 4, 1e-2);
}

TEST_CASE("updates of many layers refuse a layer that is null or there twice, and change nothing", "[gradient]") {
  auto be = test::make_backend();
  std::vector<estimate> all;
  for (int i = 0; i < 2; ++i) all.emplace_back(be, 20, 18, gradient_options{.rank = 2});
  uploaded_batches now;
  for (auto const& b : test::sample(20, 18, 10, 2)) now.add(be, b);
  auto parts = now.parts(all);
  auto const run = [&] { estimate::add_outer_all(be, std::span<update_part const>(parts)); };
  parts[1].into = &all[0];
  CHECK_THROWS_WITH(run(), Catch::Contains("there twice"));
  parts[1].into = nullptr;
  CHECK_THROWS_AS(run(), value_error);
  parts[1].into = &all[1];
  parts[1].weight = 0;
  CHECK_THROWS_AS(run(), value_error);
  CHECK(all[0].count() == 0);
  CHECK(all[1].count() == 0);
}

TEST_CASE("no backend loses more of a stream than another", "[gradient]") {
  // A CPU, which looks between steps, loses 2.02e-3 and 1.35e-3 of these micro-batches.
  auto be = test::make_backend();
  auto const batches = test::sample(80, 70, 100, 6, 0.3);
  auto const mean = test::mean_gradient(batches);
  auto const loss = [&](gradient_options const& o) {
    estimate g(be, 80, 70, o);
    test::add_all<float>(be, g, batches, true);
    return energy_lost(be, g, mean, 8);
  };
  double const plain = loss({.rank = 4}), power = loss({.rank = 4, .power_steps = 1});
  INFO(plain << " and " << power);
  CHECK(plain == Approx(2.02e-3).epsilon(0.1));
  CHECK(power == Approx(1.35e-3).epsilon(0.1));
}

TEST_CASE("columns that depend on each other, and layers of few columns, are no obstacle", "[gradient]") {
  auto be = test::make_backend();
  for (index_t const in : {index_t{6}, index_t{9}, index_t{40}}) {
    INFO("in " << in);
    incremental_gradient<backend> g(be, 50, in, {.rank = 4});
    test::host const left = test::random(50, 2, 1), right = test::random(in, 2, 2);
    auto const dy = test::upload<float>(be, left * test::random(2, 30, 3));  // rank 2, whatever the tokens
    auto const x = test::upload<float>(be, right * test::random(2, 30, 4));
    for (int i = 0; i < 4; ++i) g.add_outer(be, dy.view(), x.view());
    auto const found = g.top(be, gram{}, std::min<index_t>(in, 6));
    CHECK(found.flags[0] == svd_usable);
    auto const mean = test::download(be, dy.view()) * test::transpose(test::download(be, x.view()));
    test::check_top(mean, test::download_triplets(be, found), 2, 1e-5);
    CHECK(test::orthonormality(test::download_triplets(be, found).v) < 1e-5);
    CHECK(test::distance(test::read_estimate(be, g), mean) < 1e-5 * test::norm(mean));
  }
}

#ifdef LORAGA_TEST_DOUBLE
namespace {

/// Launches and waits of a second update.
template <class F>
device_double::work cost_of_update(F const& update) {
  update();
  update();
  auto const before = device_double::counted();
  update();
  return device_double::counted() - before;
}

}  // namespace

TEST_CASE("an incremental update does not wait, and one of many layers costs launches as one", "[gradient]") {
  auto be = test::make_backend();
  index_t const out = 1040, in = 1100, tokens = 1030;  // as many passes of each reduction as for 4096
  auto const dy = test::upload<float>(be, test::random(out, tokens, 1)),
             x = test::upload<float>(be, test::random(in, tokens, 2)),
             dw = test::upload<float>(be, test::random(out, in, 3));
  std::vector<estimate> all;
  for (int i = 0; i < 3; ++i) all.emplace_back(be, out, in, gradient_options{.rank = 2});
  auto const one = cost_of_update([&] { all[0].add_outer(be, dy.view(), x.view()); });
  INFO("add_outer: " << one.launches() << " launches, " << one.waits << " waits");
  CHECK(one.waits == 0);
  CHECK(one.launches() <= 76);  // 90 and 12 waits with a look between the steps
  auto const dense = cost_of_update([&] { all[1].add(be, dw.view()); });
  INFO("add: " << dense.launches() << " launches, " << dense.waits << " waits");
  CHECK(dense.waits == 0);
  CHECK(dense.launches() <= 70);
  std::vector<update_part> parts;
  for (auto& g : all) parts.push_back({&g, dy.view(), x.view(), 1.0});
  auto const three = cost_of_update([&] { estimate::add_outer_all(be, std::span<update_part const>(parts)); });
  INFO("add_outer of three layers: " << three.launches() << " launches, " << three.waits << " waits");
  CHECK(three.waits == 0);
  CHECK(three.launches() <= 100);
  auto const before = device_double::counted();
  estimate const* const members[] = {&all[0], &all[1], &all[2]};
  (void)estimate::top(be, gram{}, members, 4);
  CHECK((device_double::counted() - before).waits <= 4);  // two reads, whatever the number of layers
}
#endif
