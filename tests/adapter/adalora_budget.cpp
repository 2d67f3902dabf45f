#include <loraga/adapter/adalora_budget.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

TEST_CASE("AdaLoRA's budget: golden", "[adapter]") {
  adalora_schedule const s{.initial_rank = 12, .target_rank = 8, .warmup = 10, .final = 20, .total = 100};
  s.check();
  std::vector<std::pair<index_t, index_t>> const golden{{5, 120}, {10, 120}, {11, 118}, {30, 94},
                                                        {50, 83}, {79, 80},  {81, 80}};
  for (auto const& [step, budget] : golden) CHECK(s.budget(step, 10) == budget);
  CHECK(!s.prunes(10));
  CHECK(s.prunes(11));
  CHECK_THROWS_AS((adalora_schedule{.warmup = 5, .final = 5, .total = 10}.check()), value_error);
  CHECK_THROWS_AS((adalora_schedule{.initial_rank = 4, .target_rank = 5, .total = 10}.check()), value_error);
  CHECK_THROWS_AS((adalora_schedule{.total = 10, .interval = 0}.check()), value_error);
}

namespace {

using adapter = adalora<double, test::backend>;

/// The scores by the definition, on the host: one per triplet of one adapter.
struct reference {
  std::vector<host> mean, spread;
  void watch(test::backend& be, adapter& ad) {
    std::size_t at = 0;
    for (auto const& p : ad.parameters()) {
      host const w = download(be, p.value), g = download(be, p.gradient);
      if (mean.size() == at) {
        mean.emplace_back(w.rows, w.cols);
        spread.emplace_back(w.rows, w.cols);
      }
      for (std::size_t i = 0; i < w.data.size(); ++i) {
        double const now = std::abs(w.data[i] * g.data[i]);
        auto& m = mean[at].data[i];
        auto& u = spread[at].data[i];
        m = 0.85 * m + 0.15 * now;
        u = 0.85 * u + 0.15 * std::abs(now - m);
      }
      ++at;
    }
  }
  std::vector<double> scores(adapter const& ad) const {
    std::vector<double> s;
    for (index_t i = 0; i < ad.rank(); ++i) {
      double a = 0, b = 0;
      for (index_t j = 0; j < ad.in(); ++j) a += mean[0](i, j) * spread[0](i, j);
      for (index_t j = 0; j < ad.out(); ++j) b += mean[1](j, i) * spread[1](j, i);
      s.push_back(mean[2](i, 0) * spread[2](i, 0) + a / static_cast<double>(ad.in()) +
                  b / static_cast<double>(ad.out()));
    }
    return s;
  }
};

}  // namespace

TEST_CASE("the least important triplets of all layers go, and at the end for good", "[adapter]") {
  auto be = test::make_backend();
  adapter one(be, 9, 7, 3, adalora_scaling{}, {.seed = 1}), two(be, 6, 8, 3, adalora_scaling{}, {.seed = 2});
  std::vector<adapter*> const both{&one, &two};
  adalora_schedule const s{.initial_rank = 3, .target_rank = 1, .warmup = 2, .final = 3, .total = 10, .interval = 2};
  CHECK_THROWS_AS((adalora_budget<double, test::backend>(be, {&one, &one}, s)), value_error);
  CHECK_THROWS_AS((adalora_budget<double, test::backend>(be, {&one, nullptr}, s)), value_error);
  CHECK_THROWS_AS((adalora_budget<double, test::backend>(be, {}, s)), value_error);
  CHECK_THROWS_AS((adalora_budget<double, test::backend>(be, both, {.initial_rank = 4, .target_rank = 1, .total = 9})),
                  value_error);
  adalora_budget<double, test::backend> budget(be, both, s);
  std::vector<reference> expected(2);
  std::vector<bool> last;
  for (index_t step = 1; step <= 10; ++step) {
    for (std::size_t l = 0; l < 2; ++l) {
      auto& ad = *both[l];
      auto const seed = static_cast<std::uint64_t>(10 * step) + l;
      test::upload_to<double>(be, test::random(ad.rank(), 1, seed), ad.e());
      test::upload_to<double>(be, test::random(ad.gradient().rows, 1, seed + 5), ad.gradient());
      if (step < 7) expected[l].watch(be, ad);
    }
    budget.update(be);
    CHECK(budget.steps() == step);
    bool const prunes = step >= 7 || step == 4 || step == 6;
    std::vector<double> scores = expected[0].scores(one), more = expected[1].scores(two);
    scores.insert(scores.end(), more.begin(), more.end());
    auto order = scores;
    std::sort(order.begin(), order.end());
    auto const drop = static_cast<std::size_t>(6 - s.budget(std::min<index_t>(step, 7), 2));
    std::vector<bool> gone;
    for (std::size_t i = 0; i < 6; ++i) {
      auto& ad = *both[i / 3];
      bool const zero = download(be, ad.e())(static_cast<index_t>(i % 3), 0) == 0;
      CAPTURE(step, i);
      CHECK(zero == (prunes && drop > 0 && scores[i] <= order[drop - 1]));
      gone.push_back(zero);
    }
    if (step > 7) CHECK(gone == last);
    last = gone;
  }
  CHECK(budget.kept() == 2);
  CHECK(budget.ranks().size() == 2);
  for (auto* ad : both) test::upload_to<double>(be, host(ad->gradient().rows, 1, NAN), ad->gradient());
  adalora_budget<double, test::backend> broken(be, both, {.initial_rank = 3, .target_rank = 1, .total = 9});
  host const before = download(be, one.a());
  CHECK_THROWS_AS(broken.update(be), numeric_error);
  CHECK(test::distance(download(be, one.a()), before) == 0);
}

TEST_CASE("the orthogonality of a model is the mean over its factors", "[adapter]") {
  auto be = test::make_backend();
  adapter one(be, 9, 7, 3, adalora_scaling{}, {.seed = 1}), two(be, 6, 8, 3, adalora_scaling{}, {.seed = 2});
  adalora_budget<double, test::backend> budget(be, {&one, &two}, {.initial_rank = 3, .target_rank = 1, .total = 9});
  auto value = upload<double>(be, host(1, 1, 7));
  budget.add_orthogonality(be, 0.5, value.view());
  double sum = 0;
  for (auto* ad : {&one, &two}) {
    host const a = download(be, ad->a()), b = download(be, ad->b());
    sum +=
        test::norm(a * test::transpose(a) - test::identity(3)) + test::norm(test::transpose(b) * b - test::identity(3));
    CHECK(test::norm(download(be, ad->gradient())) > 0);
  }
  CHECK(read_scalar(be, value.view()) == Approx(0.5 * sum / 4).epsilon(1e-12));
}
