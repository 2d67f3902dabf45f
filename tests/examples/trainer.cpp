// What the example's figures rest on: the sampled gradient, merged copies, what each method trains, and its data.
#include "../../examples/finetune/trainer.hpp"

#include <filesystem>
#include <set>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

model::vision_transformer_shape const small_transformer{
    .side = 8, .patch = 4, .width = 16, .layers = 1, .heads = 2, .hidden = 24, .classes = 3};

data::image_set images(index_t count) {
  data::image_set s{64, {}, {}};
  for (index_t n = 0; n < count; ++n) {
    s.labels.push_back(n % 3);
    for (index_t i = 0; i < 64; ++i)
      s.images.push_back(
          static_cast<float>(random_normal({1, static_cast<std::uint64_t>(n)}, static_cast<std::uint64_t>(i))) +
          static_cast<float>(n % 3));
  }
  return s;
}

struct bench {
  backend be = test::make_backend(1);
  data::device_set<backend> set{be, images(60)};
  finetune::settings s{.rank = 3, .steps = 10, .batch = 6, .evaluate_every = 5, .sample_batches = 2, .sample_batch = 8};
  finetune::task<backend> task;
  bench() : task{small_transformer, {}, &set, &set, 60} {
    model::vision_transformer<backend> m(be, small_transformer);
    m.randomise(be, 1);
    task.checkpoint = finetune::save(be, m);
  }
};

}  // namespace

TEST_CASE("the sampled gradient is the mean of what full fine-tuning would see", "[examples]") {
  bench b;
  model::vision_transformer<backend> m(b.be, small_transformer);
  finetune::prepare(b.be, m, b.task, {"full", finetune::start::full}, b.s, 5);
  auto const sampled = finetune::estimate_gradients(b.be, m, b.set, b.s, {5, 1000});
  for (auto* t : m.tensors()) t->train(b.be, true);
  data::sampler sample(b.set.count(), {5, 1000});
  data::batch_buffer<backend> buffer;
  for (int i = 0; i < 2; ++i) {
    auto const batch = buffer.pick(b.be, b.set, sample.draw(8));
    m.run(b.be, batch.images, batch.labels, true);
  }
  auto const layers = m.linears();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    CHECK(sampled[i].count() == 2);
    host const mean = 0.5 * test::transpose(test::download(b.be, layers[i]->weight.gradient.view()));
    CHECK(test::distance(0.5 * test::download(b.be, sampled[i].sum()), mean) < 1e-6);
  }
}

TEST_CASE("every method starts at the base model with the seed's head, and trains what it says", "[examples]") {
  bench b;
  double first_loss = 0;
  for (auto const& how : finetune::all_methods({64, 16})) {
    INFO(how.name);
    auto const record = finetune::fine_tune(b.be, b.task, how, 1e-3, 7, b.s, [](index_t, double) {});
    if (first_loss == 0) first_loss = record.losses.front();
    CHECK(record.losses.front() == Approx(first_loss).epsilon(1e-5));
    CHECK(record.final_loss() < first_loss);
    CHECK(record.steps == std::vector<index_t>{0, 5, 10});
    index_t adapters = 0, base = 0;
    model::vision_transformer<backend> m(b.be, small_transformer);
    for (auto* t : m.tensors()) base += t->value.rows() * t->value.cols();
    for (auto* l : m.linears()) adapters += finetune::capped_rank(*l, 3) * (l->out() + l->in());
    CHECK(record.trainable == (how.how == finetune::start::full ? base : adapters + 3 * 16 + 3));
    auto const again = finetune::fine_tune(b.be, b.task, how, 1e-3, 7, b.s, [](index_t, double) {});
    CHECK(again.losses == record.losses);
  }
}

TEST_CASE("a new task never gets the head of pre-training, not even for its seed", "[examples]") {
  bench b;
  model::vision_transformer<backend> before(b.be, small_transformer), m(b.be, small_transformer);
  finetune::load(b.be, before, b.task.checkpoint);
  for (std::uint64_t const seed : {1, 2}) {
    finetune::prepare(b.be, m, b.task, {"full", finetune::start::full}, b.s, seed);
    auto const old = before.head.weight.value.view(), fresh = m.head.weight.value.view();
    CHECK(std::abs(cosine(b.be, old, fresh)) < 0.6);
    CHECK(read_all(b.be, m.position.value.view()) == read_all(b.be, before.position.value.view()));
  }
}

TEST_CASE("a merged copy is the model with its adapters", "[examples]") {
  bench b;
  model::vision_transformer<backend> m(b.be, small_transformer), copy(b.be, small_transformer);
  finetune::prepare(b.be, m, b.task, {"lora-ga-16", finetune::start::gradient, true, 1, 16}, b.s, 7);
  for (auto* l : m.linears()) fill_normal(b.be, l->adapter.get<lora<float, test::backend>>()->b(), {8, 1}, 0.3);
  finetune::copy_merged(b.be, m, copy);
  auto const batch = b.set.range(0, 20);
  CHECK(m.run(b.be, batch.images, batch.labels, false).loss_sum ==
        Approx(copy.run(b.be, batch.images, batch.labels, false).loss_sum).epsilon(1e-5));
  CHECK(!copy.linears()[0]->adapter);
}

TEST_CASE("steps to a loss are counted to the first evaluation at or below it", "[examples]") {
  finetune::run_record r;
  r.steps = {0, 5, 10, 15};
  r.losses = {2, 1, 1.5, 0.5};
  CHECK(r.steps_to(1) == 5);
  CHECK(r.steps_to(0.7) == 15);
  CHECK(r.steps_to(0.1) == -1);
}

TEST_CASE("batches are drawn without replacement and depend on the seed alone", "[examples]") {
  data::sampler a(10, {3, 1}), b(10, {3, 1}), other(10, {4, 1});
  auto const first = a.draw(10);
  CHECK(std::set<index_t>(first.begin(), first.end()).size() == 10);
  CHECK(b.draw(10) == first);
  CHECK(other.draw(10) != first);
  CHECK(a.draw(10) != first);
}

TEST_CASE("image files are checked", "[examples]") {
  auto const folder = std::filesystem::temp_directory_path() / "loraga-test-images";
  std::filesystem::create_directories(folder);
  auto const write = [&](char const* name, std::vector<unsigned char> const& bytes) {
    std::ofstream(folder / name, std::ios::binary)
        .write(reinterpret_cast<char const*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  std::vector<unsigned char> pictures{0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28};
  pictures.resize(16 + 2 * 784, 51);
  write("x-images-idx3-ubyte", pictures);
  write("x-labels-idx1-ubyte", {0, 0, 8, 1, 0, 0, 0, 2, 3, 6});
  auto const set = data::read_fashion_mnist(folder.string(), "x", 5, 9);
  CHECK(set.count() == 1);
  CHECK(set.labels[0] == 1);
  CHECK(set.images[0] == Approx((0.2 - 0.2860) / 0.3530).epsilon(1e-5));
  pictures.pop_back();
  write("x-images-idx3-ubyte", pictures);
  CHECK_THROWS_WITH(data::read_fashion_mnist(folder.string(), "x", 5, 9), Catch::Contains("truncated"));
  pictures[3] = 1;
  write("x-images-idx3-ubyte", pictures);
  CHECK_THROWS_WITH(data::read_fashion_mnist(folder.string(), "x", 5, 9), Catch::Contains("not an IDX file"));
  CHECK_THROWS_WITH(data::read_fashion_mnist(folder.string(), "y", 5, 9), Catch::Contains("cannot be opened"));
  std::filesystem::remove_all(folder);
}
