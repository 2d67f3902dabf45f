// The examples' training on several ranks, here threads: the losses of one process, and the same adapters on all.
#include "../../examples/training/ranks.hpp"

#include "../support/allocation_meter.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/ranks.hpp"
#include "../support/small_decoder.hpp"
#include "../support/small_tasks.hpp"

using namespace loraga;
using test::backend;

namespace {

/// All that ranks have to agree on, behind each other.
std::vector<double> losses_of(training::train_record const& r) {
  std::vector<double> all = r.losses;
  all.insert(all.end(), r.train_losses.begin(), r.train_losses.end());
  all.insert(all.end(), {r.loss, static_cast<double>(r.trainable)});
  return all;
}
/// The losses, then hits and every number that trains.
template <class T>
std::vector<double> numbers_of(backend& be, T& run, training::train_record const& record) {
  auto all = losses_of(record);
  all.insert(all.end(), record.accuracies.begin(), record.accuracies.end());
  for (auto* l : run.model().linears())
    for (auto const& p : l->adapter.parameters()) test::append(be, all, p.value);
  for (auto* t : run.model().tensors())
    if (t->trainable) test::append(be, all, t->value.view());
  return all;
}
/// One run of a task on these ranks; what a rank has in the end.
template <class T, class R>
std::vector<double> train(backend& be, T const& task, training::train_spec const& s, R const& ranks,
                          training::checkpointing const& keep = {}, index_t stop_at = -1) {
  training::trainer run(be, task, s, ranks);
  auto const record = run.run(keep, [&](training::progress const& p) {
    if (p.step == stop_at) throw std::runtime_error("interrupted");
  });
  return numbers_of(be, run, record);
}

/// A task of images or of texts. Each rank has its own.
template <class T>
struct small_on_ranks {
  T made;
  auto const& task() const { return made.task; }
  training::train_spec spec(std::string const& method) const { return made.spec(method); }
};
struct few_held_out : small_on_ranks<test::text_task> {
  few_held_out() { made.task.curve_items = 2; }
};
/// The language model's.
struct frozen {
  test::small_decoder files;
  base_model base{files.gguf()};
  data::parts<data::token_set> parts{test::counting_items(0, 40), test::counting_items(40, 8),
                                     test::counting_items(48, 12)};
  model::weights none;
  training::task<model::language_model<backend>, data::token_set> made{
      .shape = {&base, model::read_decoder_shape(base), 24}, .weights = &none, .data = &parts, .new_head = false};
  auto const& task() const { return made; }
  /// At this rank an estimate keeps all triplets, so that joining two loses nothing.
  training::train_spec spec(std::string const& method) const {
    training::train_spec s{.method = method, .set = "made", .rank = 8, .rate = 1e-3, .steps = 6, .batch = 8};
    s.evaluate_every = 3;
    s.ratio = training::find_method(method).ratio;
    s.sample = {3, 8};
    return s;
  }
};

/// One process without ranks, then 1, 2 and 3 of them; `losses` numbers lead, the rest is compared among ranks alone.
template <class T, class F>
void check_ranks(std::string const& method, double tolerance, F const& change) {
  INFO(method);
  T t;
  auto s = t.spec(method);
  change(s);
  auto be = test::make_backend(1);
  training::trainer plain(be, t.task(), s);
  auto const record = plain.run({}, [](training::progress const&) {});
  auto const alone = numbers_of(be, plain, record);
  auto const losses = losses_of(record).size();
  for (int n : {1, 2, 3}) {
    INFO(n << " ranks");
    auto const all = test::on_ranks(n, [&](backend& own, test::communicator& comm) {
      return loraga::together(own, comm, [&] {
        T mine;
        return train(own, mine.task(), s, training::rank_group(comm));
      });
    });
    for (auto const& one : all) {
      REQUIRE(one.error == "");
      CHECK(one.values == all[0].values);
    }
    REQUIRE(all[0].values.size() == alone.size());
    if (n == 1) CHECK(all[0].values == alone);
    double most = 0;
    for (std::size_t i = 0; i < losses; ++i)
      most = std::max(most, std::abs(all[0].values[i] - alone[i]) / (1 + std::abs(alone[i])));
    CHECK(most < tolerance);
  }
}
template <class T>
void check_ranks(std::string const& method, double tolerance = 1e-5) {
  check_ranks<T>(method, tolerance, [](auto&) {});
}

}  // namespace

TEST_CASE("ranks share a batch in parts that lie in a row and differ by one at most", "[examples][ranks]") {
  for (index_t n : {0, 1, 2, 7, 8})
    for (int size : {1, 2, 3, 5}) {
      index_t next = 0;
      for (int r = 0; r < size; ++r) {
        auto const [first, count] = training::part_of(n, r, size);
        CHECK(first == next);
        CHECK((count == n / size || count == n / size + 1));
        next += count;
      }
      CHECK(next == n);
    }
}

TEST_CASE("every start on ranks has one process' losses", "[examples][ranks]") {
  using task = small_on_ranks<test::transformer_task>;
  for (auto const* method :
       {"full", "lora", "lora-ga", "ga-random", "pissa", "eva", "gora", "lora-one", "lora-sb", "dora", "adalora"})
    check_ranks<task>(method);  // (adalora+lora-ga makes 1e-2 of a rounding error in one process as well)
  check_ranks<small_on_ranks<test::text_task>>("lora-ga");
  check_ranks<small_on_ranks<test::convolution_task>>("lora-ga");
}

TEST_CASE("batches with fewer items than ranks", "[examples][ranks]") {
  using task = small_on_ranks<test::transformer_task>;
  auto const few = [](training::train_spec& s) {
    s.batch = 2;
    s.sample = {6, 2};
  };
  for (auto const* method : {"lora-ga", "eva"}) check_ranks<task>(method, 1e-5, few);
  check_ranks<few_held_out>("dora", 1e-5, few);  // the last rank's magnitude is from before the first step
  check_ranks<frozen>("lora-ga", 1e-5, few);
}

TEST_CASE("a frozen base on ranks: layers are started in turns", "[examples][ranks]") {
  for (auto const* method : {"lora", "pissa", "lora-ga", "lora-one"}) check_ranks<frozen>(method);
  check_ranks<frozen>("lora-ga", 1e-5, [](auto& s) { s.passes = 2; });
  check_ranks<frozen>("lora-ga", 1e-5, [](auto& s) { s.estimate = "one-shot", s.sample = {1, 3}, s.rank = 2; });
}

TEST_CASE("ranks end a streamed sample together", "[examples][ranks]") {
  for (int n : {1, 2, 3}) {  // the last one of three sees nothing
    auto const all = test::on_ranks(n, [&](backend& be, test::communicator& comm) {
      return loraga::together(be, comm, [&] {
        frozen t;
        model::language_model<backend> m(be, t.made.shape);
        auto s = t.spec("lora-ga");
        s.rank = 2;
        s.sample = {6, 2};
        s.settle = 0.95;
        training::stream_gradients(be, m, t.parts.train, s, training::rank_group(comm));
        auto values = m.estimate.turns;
        values.insert(values.end(), {static_cast<double>(m.estimate.batches), m.estimate.settled ? 1.0 : 0.0});
        return values;
      });
    });
    for (auto const& one : all) {
      REQUIRE(one.error == "");
      CHECK(one.values == all[0].values);
    }
    CHECK(all[0].values.back() == 1);
    CHECK(all[0].values.at(all[0].values.size() - 2) < 6);
  }
}

TEST_CASE("a run of ranks goes on with another number of them, and as one process", "[examples][ranks]") {
  test::folder folder;
  auto const path = (folder / "run.safetensors").string();
  small_on_ranks<test::transformer_task> t;
  auto const s = t.spec("lora-ga");
  auto be = test::make_backend(1);
  auto const alone = train(be, t.task(), s, training::one_process{});
  auto const on = [&](int n, index_t stop_at) {
    return test::on_ranks(n, [&](backend& own, test::communicator& comm) {
      return loraga::together(own, comm, [&] {
        small_on_ranks<test::transformer_task> mine;
        return train(own, mine.task(), s, training::rank_group(comm), {path, 4}, stop_at);
      });
    });
  };
  auto const close = [&](std::vector<double> const& values) {
    REQUIRE(values.size() == alone.size());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(std::abs(values[i] - alone[i]) < 1e-4);
  };
  for (auto const& one : on(2, 5)) CHECK_THAT(one.error, Catch::Contains("interrupted"));
  REQUIRE(std::filesystem::exists(path));
  auto const first = test::read_file(path);
  for (auto const& one : on(3, -1)) {
    REQUIRE(one.error == "");
    close(one.values);
  }
  test::write_file(path, first);
  close(train(be, t.task(), s, training::one_process{}, {path, 4}));
}

namespace {

/// Images, one of which cannot be read.
struct broken_set : data::device_set<backend> {
  using data::device_set<backend>::device_set;
  struct broken_buffer : data::batch_buffer<backend> {
    auto pick(backend& be, broken_set const& set, std::vector<index_t> const& items) {
      if (std::find(items.begin(), items.end(), set.broken) != items.end())
        throw std::runtime_error("image " + std::to_string(set.broken) + " cannot be read");
      return data::batch_buffer<backend>::pick(be, set, items);
    }
  };
  template <class>
  using buffer = broken_buffer;
  index_t broken = -1;
};

}  // namespace

TEST_CASE("a rank that fails at its data ends all with one sentence", "[examples][ranks]") {
  using transformer = model::vision_transformer<backend>;
  auto const error_of = [](bool held_out, std::string const& method, training::sample_size sample) {
    return test::on_ranks(3, [&](backend& be, test::communicator& comm) {
      return loraga::together(be, comm, [&]() -> std::vector<double> {
        test::transformer_task t;
        data::parts<broken_set> parts{
            {be, test::small_images(0, 60)}, {be, test::small_images(60, 9)}, {be, test::small_images(69, 30)}};
        (held_out ? parts.test : parts.train).broken = 11;
        training::task<transformer, broken_set> const task{
            .shape = t.shape, .weights = &t.weights, .data = &parts, .curve_items = 30};
        auto s = t.spec(method);
        s.sample = sample;
        return train(be, task, s, training::rank_group(comm));
      });
    });
  };
  auto const check = [](std::vector<test::outcome> const& all) {
    CHECK_THAT(all[0].error, Catch::Contains("of 3: image 11 cannot be read"));
    for (auto const& one : all) CHECK(one.error == all[0].error);
  };
  check(error_of(false, "lora-ga", {8, 8}));  // 64 of 60 items: in the estimate
  check(error_of(false, "lora", {1, 1}));     // in a step
  check(error_of(true, "lora", {1, 1}));      // in an evaluation
}

TEST_CASE("what ranks cannot share is refused by name", "[examples][ranks]") {
  auto const errors = [](auto const& task_of, std::string const& method, auto const& change) {
    return test::on_ranks(2, [&](backend& be, test::communicator& comm) {
      return loraga::together(be, comm, [&] {
        auto const t = task_of();
        auto s = t->spec(method);
        change(s);
        return train(be, t->task(), s, training::rank_group(comm));
      });
    });
  };
  auto const images = [] { return std::make_unique<small_on_ranks<test::transformer_task>>(); };
  for (auto const& one : errors(images, "corda", [](auto&) {}))
    CHECK_THAT(one.error, Catch::Contains("ranks") && Catch::Contains("corda"));
  auto const words = [] { return std::make_unique<frozen>(); };
  for (auto const& one : errors(words, "lora-ga", [](auto& s) { s.estimate = "one-shot", s.sample = {1, 1}; }))
    CHECK_THAT(one.error, Catch::Contains("sample_batch") && Catch::Contains("one-shot"));
}
