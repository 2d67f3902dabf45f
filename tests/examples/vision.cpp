// The vision example's tables, pre-training, and data.
#include "../../examples/vision/pre_training.hpp"
#include "../../examples/vision/runs.hpp"
#include "../support/allocation_meter.hpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"
#include "../support/small_tasks.hpp"

using namespace loraga;
using test::backend;

TEST_CASE("steps to a loss are counted to the first evaluation at or below it", "[examples]") {
  training::train_record r;
  r.steps = {0, 5, 10, 15};
  r.losses = {2, 1, 1.5, 0.5};
  CHECK(r.steps_to(1) == 5);
  CHECK(r.steps_to(0.7) == 15);
  CHECK(r.steps_to(0.1) == -1);
}

TEST_CASE("a panel's rows compare runs of one seed; a run that diverged is missing", "[examples]") {
  std::vector<vision::finished_run> runs;
  auto const add = [&](char const* method, std::uint64_t seed, std::vector<double> losses) {
    vision::finished_run r{{.method = method, .rate = 1e-3, .seed = seed}, {}};
    if (!losses.empty()) r.record = training::train_record{.trainable = 7, .steps = {0, 5, 10}, .losses = losses};
    runs.push_back(r);
  };
  add("lora", 1, {2, 1.5, 1});
  add("lora", 2, {2, 1.5, 1.25});
  add("x", 1, {2, 1, 0.5});
  add("x", 2, {2, 1.5, 1.5});
  add("y", 1, {2, 1, 0.5});
  add("y", 2, {});
  auto const rows = vision::summarise({"lora", "x", "y"}, runs);
  REQUIRE(rows.size() == 3);
  CHECK(rows[0].steps_to_lora.values == std::vector<double>{10, 10});
  CHECK(rows[1].trainable == 7);
  CHECK(rows[1].loss_minus_lora.values == std::vector<double>{-0.5, 0.25});
  CHECK(rows[1].steps_to_lora.text(1) == "in 1 of 2");
  CHECK(rows[2].final_loss.to_json()["mean"] == nullptr);
  CHECK(rows[2].final_loss.to_json()["values"].dump() == "[0.5,null]");
}

TEST_CASE("runs are done once, whichever panels ask for them; other failures end the job", "[examples]") {
  int trained = 0;
  training::laboratory const lab{[&](training::train_spec const& s, auto const&, int, auto const&) {
                                   ++trained;
                                   if (s.rate == 3) throw numeric_error("diverged");
                                   if (s.rate == 4) throw std::runtime_error("out of luck");
                                   training::train_record r;
                                   r.losses = {s.rate};
                                   return r;
                                 },
                                 {},
                                 {}};
  vision::run_store store(lab, 1);
  training::train_spec s{.method = "lora", .set = "new"};
  auto const with_rate = [&](double rate) {
    s.rate = rate;
    return s;
  };
  auto const runs = store.get({with_rate(1), with_rate(2), with_rate(3)});
  CHECK(runs[1].final_loss() == 2);
  CHECK(std::isnan(runs[2].final_loss()));
  CHECK(store.get({with_rate(2)})[0].final_loss() == 2);
  CHECK(trained == 3);
  CHECK_THROWS_WITH(store.get({with_rate(4)}), "out of luck");
}

TEST_CASE("pre-training learns, is kept, and is not done twice", "[examples]") {
  test::convolution_task t;
  using net = model::convolutional_network<backend>;
  std::vector<double> losses;
  auto const w = vision::pre_train<net>(t.be, t.shape, t.parts, 60,
                                        [&](training::progress const& p) { losses.push_back(p.loss); });
  REQUIRE(losses.size() == 3);
  CHECK(losses.back() < losses.front() - 0.1);
  CHECK(w.size() == t.weights.size());
  CHECK(w.back() != t.weights.back());

  test::folder folder;
  net m(t.be, t.shape);
  model::load(t.be, m, w);
  auto const path = (folder / (t.shape.name() + "-steps60.safetensors")).string();
  vision::tensors_of<net> all{m};
  save_checkpoint(t.be, path, [&](auto& c) { all.visit_state(c); });
  CHECK(vision::pre_trained<net>(t.be, t.shape, "no data", folder.path.string(), 60) == w);
  auto other = t.shape;
  other.hidden = 11;
  std::filesystem::rename(path, folder / (other.name() + "-steps60.safetensors"));
  CHECK_THROWS_WITH(vision::pre_trained<net>(t.be, other, "no data", folder.path.string(), 60),
                    Catch::Contains("delete the file"));
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
