// The sentiment example's runs on a small random encoder: every method's start, and going on after an interruption.
#include "../../examples/sentiment/device_job.hpp"
#include "../support/backend.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

using namespace loraga;
using test::backend;

// the program replaces operator new, which the tests do themselves
std::int64_t sentiment::thread_allocations::now() { return 0; }
std::int64_t sentiment::thread_allocations::most() { return 0; }
void sentiment::thread_allocations::reset_most() {}

namespace {

/// A task a small encoder can learn: a label is whether the snippet holds token 5.
struct small_task {
  model::text_encoder_shape const shape{
      .vocabulary = 20, .positions = 12, .types = 2, .width = 16, .layers = 2, .heads = 2, .hidden = 24};
  model::encoder_weights weights;
  data::text_parts parts;
  sentiment::task task;

  small_task() {
    backend be = test::make_backend(1);
    model::text_encoder<backend> m(be, shape);
    std::uint64_t stream = 0;
    for (auto* t : m.tensors()) {
      bool const gain = t->name.ends_with(".gain");
      auto const values = test::random(t->value.rows(), t->value.cols(), 50 + stream++, 0.3);
      weights.emplace_back();
      for (double const x : values.data) weights.back().push_back(static_cast<float>(x + (gain ? 1 : 0)));
    }
    weights.resize(weights.size() - 2);  // the head is not pre-trained
    for (std::uint64_t n = 0; n < 120; ++n) {
      std::vector<index_t> tokens{1};
      auto const length = 3 + static_cast<index_t>(5 * random_uniform({7, n}, 0));
      for (index_t i = 0; i < length; ++i)
        tokens.push_back(6 + static_cast<index_t>(14 * random_uniform({7, n}, static_cast<std::uint64_t>(i + 1))));
      if (n % 2 == 1) tokens[2] = 5;
      (n < 80 ? parts.train : n < 100 ? parts.validation : parts.test).add(tokens, n % 2 == 1);
    }
    task = {shape, &weights, &parts};
  }
  sentiment::train_spec spec(std::string const& method) const {
    sentiment::train_spec s;
    s.method = method;
    s.set = "made";
    s.rank = 3;
    s.ratio = sentiment::find_method(method).ratio;
    s.rate = s.ratio > 1 ? 1e-3 : 4e-3;
    s.steps = 12;
    s.batch = 8;
    s.evaluate_every = 5;
    s.sample = {2, 8};
    return s;
  }
  sentiment::train_record run(sentiment::train_spec const& s, sentiment::checkpointing const& keep = {},
                              index_t stop_at = -1) const {
    backend be = test::make_backend(1);
    return sentiment::training<backend>(be, task, s).run(keep, [&](sentiment::progress const& p) {
      if (p.step == stop_at) throw std::runtime_error("interrupted");
    });
  }
};

void check_same(sentiment::train_record const& a, sentiment::train_record const& b) {
  CHECK(a.steps == b.steps);
  CHECK(a.losses == b.losses);
  CHECK(a.accuracies == b.accuracies);
  CHECK(a.train_losses == b.train_losses);
  CHECK(a.loss == b.loss);
  CHECK(a.trainable == b.trainable);
}

}  // namespace

TEST_CASE("sentiment: every method starts at the pre-trained model, learns, and goes on after a kill", "[examples]") {
  small_task const t;
  test::folder folder;
  double start = 0;
  for (auto const& how : sentiment::all_methods()) {
    INFO(how.name);
    auto const whole = t.run(t.spec(how.name));
    CHECK(whole.steps == std::vector<index_t>{0, 5, 10, 12});
    if (start == 0) start = whole.losses[0];
    bool const unchanged = whole.losses[0] == Approx(start).epsilon(1e-4);  // one head and one model for all
    using enum sentiment::start;
    bool const anchored = how.how != lora_one && how.how != lora_sb && how.how != gora;
    CHECK(unchanged == anchored);
    CHECK(*std::min_element(whole.losses.begin(), whole.losses.end()) < whole.losses[0]);
    CHECK(whole.n_test == 20);
    CHECK(whole.train_losses.size() == 12);

    sentiment::checkpointing const keep{(folder / (how.name + ".safetensors")).string(), 4};
    CHECK_THROWS_WITH(t.run(t.spec(how.name), keep, 10), "interrupted");
    REQUIRE(std::filesystem::exists(keep.path));
    check_same(t.run(t.spec(how.name), keep), whole);
  }
}

TEST_CASE("sentiment: a checkpoint of another configuration is refused by name and stays", "[examples]") {
  small_task const t;
  test::folder folder;
  sentiment::checkpointing const keep{(folder / "run.safetensors").string(), 4};
  CHECK_THROWS(t.run(t.spec("lora"), keep, 5));
  auto const before = test::read_file(keep.path);
  auto const refused = [&](auto const& change, std::string const& name) {
    auto s = t.spec("lora");
    change(s);
    CHECK_THAT(test::message_of([&] { t.run(s, keep); }), Catch::Contains(name) && Catch::Contains(keep.path));
    CHECK(test::read_file(keep.path) == before);
  };
  refused([](auto& s) { s.rank = 2; }, "rank = 3");
  refused([](auto& s) { s.rate = 1e-3; }, "lr = 0.004");
  refused([](auto& s) { s.method = "pissa"; }, "method = lora");
  refused([](auto& s) { s.seed = 2; }, "seed = 1");
  test::write_file(keep.path, before.substr(0, before.size() - 1));
  CHECK_THROWS_AS(t.run(t.spec("lora"), keep), format_error);
}

TEST_CASE("sentiment: a run that diverges and words that name nothing are errors", "[examples]") {
  small_task const t;
  auto s = t.spec("full");
  s.rate = 1e30;
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("diverged"));
  s = t.spec("lora-ga");
  s.directions = "sideways";
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("ArB2r"));
  s = t.spec("lora-ga");
  s.rank = 9;  // 2r triplets of a 16 x 16 gradient
  CHECK_THROWS_AS(t.run(s), shape_error);
  s.part = "train";
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("validation"));
  CHECK_THROWS_WITH(sentiment::find_method("sgd"), Catch::Contains("lora-ga"));
}

TEST_CASE("sentiment: the gradient's measurements", "[examples]") {
  small_task const t;
  backend be = test::make_backend(1);
  auto const rows = sentiment::measure_gradient(be, t.task, {"made", 1, {2, 8}, {4, 16}, {2, 8}, true});
  REQUIRE(rows.size() == 12);
  CHECK(rows[0].name == "encoder.layer.0.attention.self.query");
  CHECK(rows[4].out == 24);
  for (auto const& r : rows) {
    CHECK(r.spectrum.size() == 16);
    CHECK(r.coverage[0] > 0.2);
    CHECK(r.coverage[0] < 1);
    CHECK(r.coverage[1] == Approx(1).epsilon(1e-4));
    CHECK(r.sign_similarity > 0.5);
    CHECK(r.magnitude_similarity > 0.5);
    CHECK(r.sign_similarity < 1);
  }
}
