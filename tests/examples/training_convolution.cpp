// The examples' training on a small convolutional network, evaluated on merged copies.
#include "../support/allocation_meter.hpp"
#include "../support/every_method.hpp"

using namespace loraga;
using test::backend;
using test::host;

TEST_CASE("every method on convolutions starts at the model, learns, and goes on after a kill", "[examples]") {
  test::check_every_method<test::convolution_task>(0);
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

TEST_CASE("a merged copy is the convolutional network with its adapters", "[examples]") {
  test::convolution_task t;
  training::trainer run(t.be, t.task, t.spec("lora-ga-16"));
  run.start();
  auto& m = run.model();
  model::convolutional_network<backend> copy(t.be, t.shape);
  for (auto* l : m.linears()) fill_normal(t.be, l->adapter.get<lora<float, backend>>()->b(), {8, 1}, 0.3);
  training::copy_merged(t.be, m, copy);
  auto const batch = t.parts.train.range(0, 20);
  CHECK(m.run(t.be, batch, false).loss_sum == Approx(copy.run(t.be, batch, false).loss_sum).epsilon(1e-5));
  CHECK(!copy.linears()[0]->adapter);
}
