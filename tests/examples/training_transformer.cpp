// The examples' training on a small vision transformer, evaluated on merged copies.
#include "../support/allocation_meter.hpp"
#include "../support/every_method.hpp"

using namespace loraga;
using test::backend;

TEST_CASE("every method on a vision transformer starts at the model, learns, and goes on", "[examples]") {
  test::check_every_method<test::transformer_task>(0);
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

TEST_CASE("a merged copy is the transformer with its adapters", "[examples]") {
  test::transformer_task t;
  training::trainer run(t.be, t.task, t.spec("lora-ga-16"));
  run.start();
  auto& m = run.model();
  model::vision_transformer<backend> copy(t.be, t.shape);
  for (auto* l : m.linears()) fill_normal(t.be, l->adapter.get<lora<float, backend>>()->b(), {8, 1}, 0.3);
  training::copy_merged(t.be, m, copy);
  auto const batch = t.parts.train.range(0, 20);
  CHECK(m.run(t.be, batch, false).loss_sum == Approx(copy.run(t.be, batch, false).loss_sum).epsilon(1e-5));
  CHECK(!copy.linears()[0]->adapter);
}
