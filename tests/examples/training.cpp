// The examples' training on small random models: every method's start, what it trains, and going on after a kill.
#include "../support/allocation_meter.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/small_tasks.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

void check_same(training::train_record const& a, training::train_record const& b) {
  CHECK(a.steps == b.steps);
  CHECK(a.losses == b.losses);
  CHECK(a.accuracies == b.accuracies);
  CHECK(a.train_losses == b.train_losses);
  CHECK(a.loss == b.loss);
  CHECK(a.accuracy == b.accuracy);
  CHECK(a.trainable == b.trainable);
}

/// Numbers a method trains that has the same rank on every layer.
template <class T>
index_t expected_trainable(T& t, training::train_spec const& s) {
  auto const how = training::find_method(s.method);
  auto m = typename decltype(t.task)::model_type(t.be, t.shape);
  auto const tensors = m.tensors();
  index_t total = 0;
  for (std::size_t i = how.full() ? 0 : tensors.size() - 2; i < tensors.size(); ++i)
    total += tensors[i]->value.rows() * tensors[i]->value.cols();
  if (how.full()) return total;
  for (auto* l : m.linears()) {
    index_t const r = std::min(s.rank, training::most_rank(*l));
    total += r * (l->out() + l->in()) + (how.kind == training::adapter_kind::dora ? l->out() : 0);
  }
  return total;
}

template <class T>
void check_every_method() {
  T t;
  test::folder folder;
  double start = 0;
  for (auto const& how : training::all_methods()) {
    INFO(how.name);
    auto const s = t.spec(how.name);
    auto const whole = t.run(s);
    CHECK(whole.steps == std::vector<index_t>{0, 5, 10, 12});
    if (start == 0) start = whole.losses[0];
    bool const unchanged = whole.losses[0] == Approx(start).epsilon(1e-4);  // one head and one model for all
    using enum training::start;
    bool const anchored = how.how != lora_one && how.how != lora_sb && how.how != gora;
    CHECK(unchanged == anchored);
    CHECK(*std::min_element(whole.losses.begin(), whole.losses.end()) < whole.losses[0]);
    CHECK(whole.n_test == t.parts.test.count());
    CHECK(whole.train_losses.size() == 12);
    using kind = training::adapter_kind;
    if (!how.own_ranks() && how.kind != kind::adalora && how.kind != kind::lora_sb)
      CHECK(whole.trainable == expected_trainable(t, s));

    training::checkpointing const keep{(folder / (how.name + ".safetensors")).string(), 4};
    CHECK_THROWS_WITH(t.run(s, keep, 10), "interrupted");
    REQUIRE(std::filesystem::exists(keep.path));
    check_same(t.run(s, keep), whole);
  }
}

}  // namespace

TEST_CASE("every method on a text encoder starts at the model, learns, and goes on after a kill", "[examples]") {
  check_every_method<test::text_task>();
}
TEST_CASE("every method on a vision transformer, evaluated on merged copies", "[examples]") {
  check_every_method<test::transformer_task>();
}
TEST_CASE("every method on convolutions", "[examples]") { check_every_method<test::convolution_task>(); }

TEST_CASE("a checkpoint of another configuration is refused by name and stays", "[examples]") {
  test::text_task const t;
  test::folder folder;
  training::checkpointing const keep{(folder / "run.safetensors").string(), 4};
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
  refused([](auto& s) { s.sample.batch = 9; }, "sample_batch = 8");
  refused([](auto& s) { s.warmup = 3; }, "another configuration");
  test::write_file(keep.path, before.substr(0, before.size() - 1));
  CHECK_THROWS_AS(t.run(t.spec("lora"), keep), format_error);
}

TEST_CASE("a run that diverges and words that name nothing are errors; ranks have a limit", "[examples]") {
  test::text_task t;
  auto s = t.spec("full");
  s.rate = 1e30;
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("diverged"));
  s = t.spec("lora-ga");
  s.directions = "sideways";
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("ArB2r"));
  s = t.spec("lora-ga");
  s.rank = 9;  // there are no 2r triplets of a 16 x 16 gradient
  auto eight = s;
  eight.rank = 8;
  check_same(t.run(s), t.run(eight));
  s.part = "train";
  CHECK_THROWS_WITH(t.run(s), Catch::Contains("validation"));
}

TEST_CASE("methods are those of the table, with any gamma behind them", "[examples]") {
  CHECK(training::find_method("lora-ga-64").rate == 3e-4);  // a line of its own
  auto const how = training::find_method("ga-random-2.5");
  CHECK(how.gamma == 2.5);
  CHECK(how.name == "ga-random-2.5");
  CHECK(how.source == training::direction_source::random_matrix);
  CHECK(training::spec_of({.rate = 0, .ratio = 0}, "lora+").ratio == 16);
  CHECK(training::spec_of({.rate = 2, .ratio = 0}, "lora+").rate == 2);
  for (auto const* wrong : {"sgd", "lora-16", "lora-ga-", "lora-ga-x", "lora-ga--1", "lora-ga-nan", ""})
    CHECK_THROWS_WITH(training::find_method(wrong), Catch::Contains("lora-ga"));
}

TEST_CASE("the gradient's measurements", "[examples]") {
  test::text_task t;
  auto const rows = training::measure_gradient(t.be, t.task, {"made", 1, {2, 8}, {4, 16}, {2, 8}, true});
  REQUIRE(rows.size() == 12);
  CHECK(rows[0].name == "encoder.layer.0.attention.self.query.weight");
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

TEST_CASE("a first update is full fine-tuning's, nearly LoRA-GA's, and not a random start's", "[examples]") {
  test::convolution_task t;
  auto const mean_sgd = [&](char const* method) {
    auto s = t.spec(method);
    s.gamma = 16;
    auto const u = training::measure_first_update(t.be, t.task, s);
    REQUIRE(u.sgd.size() == 3);
    REQUIRE(u.adamw.size() == 3);
    for (double const c : u.adamw) CHECK(c > 0);
    double sum = 0;
    for (double const c : u.sgd) sum += c / 3;
    return sum;
  };
  CHECK(mean_sgd("full") == 1);
  CHECK(mean_sgd("lora-ga") > 0.8);
  CHECK(mean_sgd("lora-ga") > mean_sgd("ga-random") + 0.1);
  CHECK(std::isnan(mean_sgd("dora")));
}

TEST_CASE("the sampled gradient is the mean of what full fine-tuning would see", "[examples]") {
  test::convolution_task t;
  model::convolutional_network<backend> m(t.be, t.shape);
  training::set_up(t.be, m, t.task, 5);
  auto const sampled = training::estimate_gradients<dense_gradient<backend>>(t.be, m, t.parts.train, {2, 8}, {5, 1000});
  for (auto* tensor : m.tensors()) tensor->train(t.be, true);
  data::sampler sample(t.parts.train.count(), {5, 1000});
  data::batch_buffer<backend> buffer;
  for (int i = 0; i < 2; ++i) m.run(t.be, buffer.pick(t.be, t.parts.train, sample.draw(8)), true);
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    CHECK(sampled[i].count() == 2);
    host const mean = 0.5 * test::transpose(test::download(t.be, layers[i]->weight.gradient.view()));
    CHECK(test::distance(0.5 * test::download(t.be, sampled[i].sum()), mean) < 1e-6);
  }
}

TEST_CASE("a new task never gets the head of pre-training, not even for its seed", "[examples]") {
  test::transformer_task t;
  model::vision_transformer<backend> before(t.be, t.shape), m(t.be, t.shape);
  model::load(t.be, before, t.weights);
  for (std::uint64_t const seed : {1, 2}) {
    training::set_up(t.be, m, t.task, seed);
    auto const old = before.head.weight.value.view(), fresh = m.head.weight.value.view();
    CHECK(std::abs(cosine(t.be, old, fresh)) < 0.6);
    CHECK(read_all(t.be, m.position.value.view()) == read_all(t.be, before.position.value.view()));
  }
  t.task.new_head = false;
  training::set_up(t.be, m, t.task, 1);
  CHECK(model::save(t.be, m) == t.weights);
}

TEST_CASE("a merged copy is the model with its adapters", "[examples]") {
  auto const check = [](auto& t) {
    training::trainer run(t.be, t.task, t.spec("lora-ga-16"));
    run.start();
    auto& m = run.model();
    std::remove_cvref_t<decltype(m)> copy(t.be, t.shape);
    for (auto* l : m.linears()) fill_normal(t.be, l->adapter.template get<lora<float, backend>>()->b(), {8, 1}, 0.3);
    training::copy_merged(t.be, m, copy);
    auto const batch = t.parts.train.range(0, 20);
    CHECK(m.run(t.be, batch, false).loss_sum == Approx(copy.run(t.be, batch, false).loss_sum).epsilon(1e-5));
    CHECK(!copy.linears()[0]->adapter);
  };
  test::transformer_task transformer;
  check(transformer);
  test::convolution_task convolution;
  check(convolution);
}
