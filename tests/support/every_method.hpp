#pragma once
#include "catch.hpp"
#include "folder.hpp"
#include "small_tasks.hpp"

namespace test {

inline void check_same(training::train_record const& a, training::train_record const& b) {
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
loraga::index_t expected_trainable(T& t, training::train_spec const& s) {
  auto const how = training::find_method(s.method);
  auto m = typename decltype(t.task)::model_type(t.be, t.shape);
  auto const tensors = m.tensors();
  loraga::index_t total = 0;
  for (std::size_t i = how.full() ? 0 : tensors.size() - 2; i < tensors.size(); ++i)
    total += tensors[i]->value.rows() * tensors[i]->value.cols();
  if (how.full()) return total;
  for (auto* l : m.linears()) {
    loraga::index_t const r = std::min(s.rank, training::most_rank(*l));
    total += r * (l->out() + l->in()) + (how.kind == training::adapter_kind::dora ? l->out() : 0);
  }
  return total;
}

/// `moves`: by how much of the loss a start that is not anchored changes it at least.
template <class T>
void check_every_method(double moves) {
  T t;
  test::folder folder;
  double start = 0;
  for (auto const& how : training::all_methods()) {
    INFO(how.name);
    auto const s = t.spec(how.name);
    auto const whole = t.run(s);
    CHECK(whole.steps == std::vector<loraga::index_t>{0, 5, 10, 12});
    if (start == 0) start = whole.losses[0];
    double const change = std::abs(whole.losses[0] / start - 1);  // one head and one model for all
    using enum training::start;
    bool const anchored = how.how != lora_one && how.how != lora_sb && how.how != gora;
    if (anchored) CHECK(change < 1e-4);
    else CHECK(change > moves);
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

}  // namespace test
