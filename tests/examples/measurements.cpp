// What the examples measure of gradients and first updates.
#include "../support/allocation_meter.hpp"
#include "../support/every_method.hpp"

using namespace loraga;

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

TEST_CASE("a first update is full fine-tuning's, nearer to it by LoRA-GA than by a random start", "[examples]") {
  test::transformer_task t;
  auto const sgd = [&](char const* method) {
    auto s = t.spec(method);
    s.rank = 1;
    s.gamma = 16;
    s.sample = {4, 16};
    auto const u = training::measure_first_update(t.be, t.task, s);
    REQUIRE(u.sgd.size() == 13);
    REQUIRE(u.adamw.size() == 13);
    double sum = 0, adamw = 0;
    for (double const c : u.sgd) sum += c / 13;
    for (double const c : u.adamw) adamw += c / 13;
    CHECK(adamw > 0.02);
    return sum;
  };
  CHECK(sgd("full") == Approx(1));
  CHECK(sgd("lora-ga") > sgd("ga-random") + 0.1);
  CHECK(std::isnan(sgd("dora")));
}
