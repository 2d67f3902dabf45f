#include <sys/resource.h>
#include <sys/wait.h>
#include <csignal>
#include <loraga/io/checkpoint.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::backend;

namespace {

/// A layer in training, with all the state there can be: 16-bit values with masters, dropout, an anchor, LoRA+ groups,
/// gradient estimates.
template <class T, class X>
struct training {
  backend be = test::make_backend();
  matrix<float, backend> weight = test::upload<float>(be, test::random(9, 7, 1));
  lora<T, backend> adapter{be, 9, 7, 2, rank_stable_scaling{}, {.dropout = 0.25, .seed = 3}};
  adamw<T, backend, cosine_schedule> optimiser{be, {.total = 20}};
  incremental_gradient<backend> estimate{be, 9, 7, {.rank = 2}};
  dense_gradient<backend> mean{be, 9, 7};
  background_worker<backend> worker{be};
  background_gradient<incremental_gradient<backend>, backend> background{worker, 9, 7, gradient_options{.rank = 2}};
  offloaded_gradient<backend> offloaded{worker, be, 9, 7};
  typename lora<T, backend>::tape tape;
  index_t step = 0;
  std::string note = "start";
  std::vector<double> losses;

  explicit training(bool start, double rate = 1e-2) {
    if (start) {
      mean.add(be, test::upload<float>(be, test::random(9, 7, 2)).view());
      initialise(be, adapter, lora_ga_init{}, weight.view(), gram{}, mean, X{});
    }
    add_adapter(be, optimiser, adapter, {.learning_rate = rate, .weight_decay = 0.01}, 4);
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
      if (step % 2 == 0) adapter.zero_gradient(be);  // two micro-batches to a step
      (void)adapter.backward(be, weight.view(), x.view(), y.view(), tape, 0, test::view<float>{});
      if (step % 2 == 1) optimiser.step(be);
      estimate.add_outer(be, y.view(), x.view());
      mean.add_outer(be, y.view(), x.view());
      background.add_outer(be, y.view(), x.view());
      offloaded.add_outer(be, y.view(), x.view());
      losses.push_back(test::norm(test::download(be, y.view())));
    }
    note = "after " + std::to_string(step);
  }
  auto items() {
    return [this](auto& c) {
      c("adapter", adapter);
      c("optimiser", optimiser);
      c("estimate", estimate);
      c("mean", mean);
      c("background", background);
      c("offloaded", offloaded);
      c("step", step);
      c("note", note);
      c("losses", losses);
    };
  }
};

template <class T, class X>
void check_resume() {
  test::folder const folder;
  training<T, X> whole(true);
  whole.run(11);
  {
    training<T, X> first(true);
    first.run(5);  // in the middle of a step: one micro-batch is in the gradients
    save_checkpoint(first.be, folder / "c", first.items());
  }
  training<T, X> second(false);
  load_checkpoint(second.be, folder / "c", second.items());
  CHECK(second.step == 5);
  CHECK(second.note == "after 5");
  if (X::changes_weight) second.adapter.anchor_again(second.be, second.weight.view());
  second.run(6);
  CHECK(second.losses == whole.losses);  // to the last bit
  auto const same = [&](auto a, auto b) {
    return test::download(whole.be, a).data == test::download(second.be, b).data;
  };
  CHECK(same(whole.adapter.a(), second.adapter.a()));
  CHECK(same(whole.adapter.b(), second.adapter.b()));
  CHECK(same(whole.adapter.start_b(), second.adapter.start_b()));
  CHECK(same(whole.weight.view(), second.weight.view()));
  CHECK(same(whole.estimate.state().u, second.estimate.state().u));
  CHECK(same(whole.mean.sum(), second.mean.sum()));
  CHECK(same(whole.background.finished().state().v, second.background.finished().state().v));
  auto const a = whole.offloaded.total(), b = second.offloaded.total();
  CHECK(std::equal(a.data, a.data + a.rows * a.cols, b.data));
  CHECK(whole.estimate.count() == second.estimate.count());
  // and both write the same file
  save_checkpoint(whole.be, folder / "1", whole.items());
  save_checkpoint(second.be, folder / "2", second.items());
  CHECK(test::read_file(folder / "1") == test::read_file(folder / "2"));
}

struct cursor {
  index_t epoch = 0;
  bool shuffled = false;
  int width = 4;
  template <class C>
  void visit_state(C& c) {
    c.same("width", width);
    c("epoch", epoch);
    c("shuffled", shuffled);
  }
};

}  // namespace

TEST_CASE("a resumed run is the uninterrupted one, bit for bit", "[io]") {
  check_resume<float, in_place_anchor>();
  check_resume<bf16, frozen_pair_anchor>();
}

TEST_CASE("an adapter anchored in place asks for its W after loading", "[io]") {
  test::folder const folder;
  training<float, in_place_anchor> saved(true), fresh(false), same(true);
  save_checkpoint(saved.be, folder / "c", saved.items());
  CHECK_THROWS_AS(fresh.adapter.anchor_again(fresh.be, fresh.weight.view()), state_error);
  load_checkpoint(fresh.be, folder / "c", fresh.items());
  CHECK_THROWS_WITH(fresh.run(1), Catch::Contains("anchor_again"));
  CHECK_THROWS_AS(fresh.adapter.merge(fresh.be, fresh.weight.view()), state_error);
  fresh.adapter.anchor_again(fresh.be, fresh.weight.view());
  CHECK_THROWS_AS(fresh.adapter.anchor_again(fresh.be, fresh.weight.view()), state_error);
  fresh.run(1);
  load_checkpoint(same.be, folder / "c", same.items());  // its W is anchored already
  CHECK_NOTHROW(same.run(1));

  // W anchored to another start would stay wrong without a word
  training<float, in_place_anchor> other(false);
  other.mean.add(other.be, test::upload<float>(other.be, test::random(9, 7, 77)).view());
  initialise(other.be, other.adapter, lora_ga_init{}, other.weight.view(), gram{}, other.mean, in_place_anchor{});
  CHECK_THROWS_WITH(load_checkpoint(other.be, folder / "c", other.items()),
                    Catch::Contains("'adapter.start' is of other numbers"));
  // but one that still waits for its W takes any
  training<float, in_place_anchor> twice(false);
  load_checkpoint(twice.be, folder / "c", twice.items());
  save_checkpoint(other.be, folder / "d", other.items());
  load_checkpoint(twice.be, folder / "d", twice.items());
  twice.adapter.anchor_again(twice.be, twice.weight.view());
  CHECK(test::download(twice.be, twice.weight.view()).data == test::download(other.be, other.weight.view()).data);
}

TEST_CASE("a checkpoint of another program is refused by name and changes nothing", "[io]") {
  test::folder const folder;
  training<float, frozen_pair_anchor> saved(true);
  saved.run(2);
  save_checkpoint(saved.be, folder / "c", saved.items());
  training<float, frozen_pair_anchor> other(true);
  auto const before = test::download(other.be, other.adapter.b()).data;
  auto const refused = [&](auto const& items, std::string const& why) {
    CHECK_THAT(test::message_of([&] { load_checkpoint(other.be, folder / "c", items); }), Catch::Contains(why));
    CHECK(test::download(other.be, other.adapter.b()).data == before);
    CHECK(other.step == 0);
  };
  auto const all = other.items();
  refused([&](auto& c) { c("adapter", other.adapter), c("step", other.step); }, "present in the file");
  refused([&](auto& c) { all(c), c("more", other.step); }, "'more' is missing");
  refused([&](auto& c) { all(c), c("step", other.step); }, "'step' is asked for twice");
  float narrow = 0;
  refused([&](auto& c) { c("adapter", other.adapter), c("step", narrow); }, "'step' is I64 [] in the file");
  lora<float, backend> wide(other.be, 9, 7, 3, rank_stable_scaling{}),
      strong(other.be, 9, 7, 2, rank_stable_scaling{.alpha = 8}),
      half_kind(other.be, 9, 7, 2, rank_stable_scaling{}, {.dropout = 0.5, .seed = 3});
  refused([&](auto& c) { c("adapter", wide); }, "'adapter.rank' is 2 in the file, expected 3");
  refused([&](auto& c) { c("adapter", strong); }, "'adapter.scale'");
  refused([&](auto& c) { c("adapter", half_kind); }, "'adapter.dropout.probability'");
  lora<bf16, backend> narrower(other.be, 9, 7, 2, rank_stable_scaling{});
  refused([&](auto& c) { c("adapter", narrower); }, "'adapter.values' is F32");

  test::write_file(folder / "c", "garbage, and no checkpoint");
  refused(all, "header length");
  { safetensors_writer(folder / "d", {}, {{"format", "pt"}}).commit(); }
  CHECK_THROWS_WITH(load_checkpoint(other.be, folder / "d", all), Catch::Contains("no checkpoint of this format"));
  CHECK_THROWS_AS(load_checkpoint(other.be, folder / "missing", all), file_error);
}

TEST_CASE("other rates are refused unless allowed", "[io]") {
  test::folder const folder;
  training<float, frozen_pair_anchor> saved(true), other(true, 1e-3);
  saved.run(4);
  save_checkpoint(saved.be, folder / "c", saved.items());
  CHECK_THROWS_WITH(load_checkpoint(other.be, folder / "c", other.items()),
                    Catch::Contains("learning_rate' is 0.01 in the file, expected 0.001"));
  CHECK(other.step == 0);
  load_checkpoint(other.be, folder / "c", other.items(), {.settings_may_change = true});
  CHECK(other.step == 4);
  auto const before = test::download(other.be, other.adapter.b());
  saved.run(2);
  other.run(2);
  auto const far = test::distance(test::download(saved.be, saved.adapter.b()), before);
  auto const near = test::distance(test::download(other.be, other.adapter.b()), before);
  CHECK(near > 0);
  CHECK(near < 0.2 * far);  // its own rate, a tenth
}

TEST_CASE("numbers, lists and classes of one's own", "[io]") {
  auto be = test::make_backend();
  test::folder const folder;
  auto head = test::upload<double>(be, test::random(3, 4, 1));
  auto const kept = test::download(be, head.view());
  cursor c{7, true};
  std::vector<std::uint64_t> seeds{1, 2, 3};
  std::vector<float> none;
  float rate = 0.5f;
  auto const items = [&](auto& v) {
    v("data", c), v("seeds", seeds), v("none", none), v("rate", rate), v("head", head.view());
  };
  save_checkpoint(be, folder / "c", items);
  c = {};
  seeds = {9};
  none = {1};
  rate = 0;
  fill(be, head.view(), 0);
  load_checkpoint(be, folder / "c", items);
  CHECK(c.epoch == 7);
  CHECK(c.shuffled);
  CHECK(seeds == std::vector<std::uint64_t>{1, 2, 3});
  CHECK(none.empty());
  CHECK(rate == 0.5f);
  CHECK(test::download(be, head.view()).data == kept.data);
  c.width = 5;
  CHECK_THROWS_WITH(load_checkpoint(be, folder / "c", items),
                    Catch::Contains("'data.width' is 4 in the file, expected 5"));

  auto bytes = test::read_file(folder / "c");
  bytes[bytes.size() - 1] = 2;  // the last tensor is the truth value
  test::write_file(folder / "c", bytes);
  c.width = 4;
  CHECK_THROWS_WITH(load_checkpoint(be, folder / "c", items), Catch::Contains("no truth value"));
}

TEST_CASE("a merged adapter is not saved", "[io]") {
  test::folder const folder;
  training<float, frozen_pair_anchor> t(true);
  t.adapter.merge(t.be, t.weight.view());
  CHECK_THROWS_AS(save_checkpoint(t.be, folder / "c", t.items()), state_error);
  CHECK(folder.count() == 0);
}

#ifndef LORAGA_TEST_CUDA  // devices do not survive fork
TEST_CASE("a crash at any byte leaves the checkpoint before", "[io]") {
  test::folder const folder;
  auto const path = folder / "c";
  auto be = test::make_backend(1);
  lora<float, backend> adapter(be, 5, 4, 2, classic_scaling{});
  index_t step = 1;
  auto const items = [&](auto& c) { c("adapter", adapter), c("step", step); };
  save_checkpoint(be, path, items);
  auto const size = static_cast<rlim_t>(test::read_file(path).size());
  step = 2;
  for (rlim_t bytes = 0; bytes < size; ++bytes) {
    pid_t const child = ::fork();
    if (child == 0) {
      rlimit const limit{bytes, bytes};
      ::setrlimit(RLIMIT_FSIZE, &limit);
      std::signal(SIGXFSZ, SIG_DFL);
      save_checkpoint(be, path, items);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    REQUIRE(WIFSIGNALED(status));
    index_t found = 0;
    step = 0;
    load_checkpoint(be, path, items);
    found = step;
    step = 2;
    REQUIRE(found == 1);
  }
  save_checkpoint(be, path, items);
  step = 0;
  load_checkpoint(be, path, items);
  CHECK(step == 2);
}
#endif
