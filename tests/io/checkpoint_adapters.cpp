// Trainings with DoRA, AdaLoRA and LoRA-SB go on from a checkpoint bit for bit.
#include <loraga/io/checkpoint.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::backend;

namespace {

struct nothing {
  template <class A>
  nothing(backend&, A&) {}
  void before_step(backend&) {}
  void after_step(backend&) {}
  template <class C>
  void visit_state(C&) {}
};
struct pruning {
  adalora_budget<float, backend> budget;
  matrix<double, backend> value;
  pruning(backend& be, adalora<float, backend>& ad)
      : budget(be, {&ad}, {.initial_rank = 3, .target_rank = 1, .warmup = 1, .final = 3, .total = 9, .interval = 2}),
        value(be, 1, 1) {}
  void before_step(backend& be) { budget.add_orthogonality(be, 0.5, value.view()); }
  void after_step(backend& be) { budget.update(be); }
  template <class C>
  void visit_state(C& c) {
    c("budget", budget);
  }
};

template <class A, class X, class Extra>
struct adapter_run {
  backend be = test::make_backend();
  matrix<float, backend> weight = test::upload<float>(be, test::random(9, 7, 1));
  A adapter{be, 9, 7, 3, rank_stable_scaling{}, {.dropout = 0.25, .seed = 3}};
  Extra extra{be, adapter};
  adamw<typename A::value_type, backend> optimiser{be};
  input_statistics<backend> inputs{be, 7};
  typename A::tape tape;
  index_t step = 0;
  std::vector<double> losses;

  explicit adapter_run(bool start) {
    if (start) {
      dense_gradient<backend> gradient(be, 9, 7);
      gradient.add(be, test::upload<float>(be, test::random(9, 7, 2)).view());
      using init = std::conditional_t<std::is_same_v<A, lora_sb<typename A::value_type, backend>>, lora_one_init, lora_ga_init>;
      initialise(be, adapter, init{}, weight.view(), gram{}, gradient, X{});
    }
    add_adapter(be, optimiser, adapter, {.learning_rate = 1e-2});
  }
  void run(index_t steps) {
    for (index_t end = step + steps; step < end; ++step) {
      auto const seed = static_cast<std::uint64_t>(10 + step);
      auto const x = test::upload<float>(be, test::random(7, 5, seed)),
                 dy = test::upload<float>(be, test::random(9, 5, seed + 100));
      matrix<float, backend> y(be, 9, 5);
      be.gemm(1, weight.view(), x.view(), 0, y.view());
      adapter.forward(be, weight.view(), x.view(), y.view(), tape);
      axpby(be, 1, dy.view(), 0.1, y.view());
      adapter.zero_gradient(be);
      (void)adapter.backward(be, weight.view(), x.view(), y.view(), tape, 0, test::view<float>{});
      extra.before_step(be);
      optimiser.step(be);
      extra.after_step(be);
      inputs.add(be, x.view());
      losses.push_back(test::norm(test::download(be, y.view())));
    }
  }
  auto items() {
    return [this](auto& c) {
      c("adapter", adapter);
      c("extra", extra);
      c("optimiser", optimiser);
      c("inputs", inputs);
      c("step", step);
      c("losses", losses);
    };
  }
};

template <class A, class X, class Extra>
void check_resume() {
  test::folder const folder;
  adapter_run<A, X, Extra> whole(true), first(true), second(false);
  whole.run(9);
  first.run(5);
  save_checkpoint(first.be, folder / "c", first.items());
  load_checkpoint(second.be, folder / "c", second.items());
  if (X::changes_weight) {
    auto y = test::upload<float>(second.be, test::host(9, 5)), x = test::upload<float>(second.be, test::host(7, 5));
    CHECK_THROWS_AS(second.adapter.forward(second.be, second.weight.view(), x.view(), y.view(), second.tape),
                    state_error);
    second.adapter.anchor_again(second.be, second.weight.view());
  }
  second.run(4);
  CHECK(second.losses == whole.losses);  // to the last bit
  save_checkpoint(whole.be, folder / "1", whole.items());
  save_checkpoint(second.be, folder / "2", second.items());
  CHECK(test::read_file(folder / "1") == test::read_file(folder / "2"));
}

}  // namespace

TEST_CASE("a budget's checkpoint is for its own schedule", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  adalora<float, backend> ad(be, 9, 7, 3, rank_stable_scaling{});
  adalora_schedule const s{.initial_rank = 3, .target_rank = 1, .total = 9};
  adalora_schedule other = s, longer = s;
  other.target_rank = 2;
  longer.total = 90;
  adalora_budget<float, backend> one(be, {&ad}, s), two(be, {&ad}, other), three(be, {&ad}, longer);
  save_checkpoint(be, folder / "c", [&](auto& c) { c("budget", one); });
  CHECK_THROWS_WITH(load_checkpoint(be, folder / "c", [&](auto& c) { c("budget", two); }),
                    Catch::Contains("target_rank"));
  CHECK_THROWS_WITH(load_checkpoint(be, folder / "c", [&](auto& c) { c("budget", three); }), Catch::Contains("total"));
  load_checkpoint(be, folder / "c", [&](auto& c) { c("budget", three); }, {.settings_may_change = true});
}

TEST_CASE("DoRA, AdaLoRA and LoRA-SB go on from a checkpoint", "[io]") {
  check_resume<dora<bf16, backend>, in_place_anchor, nothing>();
  check_resume<dora<float, backend>, frozen_pair_anchor, nothing>();
  check_resume<adalora<float, backend>, frozen_pair_anchor, pruning>();
  check_resume<lora_sb<bf16, backend>, in_place_anchor, nothing>();
  check_resume<lora_sb<float, backend>, frozen_pair_anchor, nothing>();
}

TEST_CASE("saving a DoRA, and a load that is refused, change nothing in it", "[io]") {
  // W is swapped behind its back, so that one sees whether the adapter still knows the norms it had looked at.
  auto be = test::make_backend();
  test::folder const folder;
  auto const w = test::upload<float>(be, test::random(9, 7, 1)), other = test::upload<float>(be, test::random(9, 7, 5));
  auto const x = test::upload<float>(be, test::random(7, 4, 2));
  auto const run = [&](auto const& between) {
    dora<float, backend> ad(be, 9, 7, 3, rank_stable_scaling{});
    initialise(be, ad, gaussian_init{.seed = 3});
    fill(be, ad.b(), 0.3);
    ad.prepare(be, w.view());
    between(ad);
    dora<float, backend>::tape tape;
    matrix<float, backend> y(be, 9, 4);
    fill(be, y.view(), 0);
    ad.forward(be, other.view(), x.view(), y.view(), tape);
    return test::download(be, y.view());
  };
  auto const plain = run([](auto&) {});
  index_t step = 3;
  CHECK(test::distance(
            run([&](auto& ad) { save_checkpoint(be, folder / "c", [&](auto& c) { c("ad", ad), c("step", step); }); }),
            plain) == 0);
  auto const refused = [&](auto& ad) {
    CHECK_THROWS_AS(load_checkpoint(be, folder / "c", [&](auto& c) { c("ad", ad), c.same("step", index_t{4}); }),
                    state_error);
  };
  CHECK(test::distance(run(refused), plain) == 0);
  CHECK(test::distance(
            run([&](auto& ad) { load_checkpoint(be, folder / "c", [&](auto& c) { c("ad", ad), c("step", step); }); }),
            plain) > 1e-3);  // what a load brings is another layer's
}
