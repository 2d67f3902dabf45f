// The examples' training on a small text encoder: every method's start, what it trains, and going on after a kill.
#include "../support/allocation_meter.hpp"
#include "../support/every_method.hpp"

using namespace loraga;

TEST_CASE("every method on a text encoder starts at the model, learns, and goes on after a kill", "[examples]") {
  test::check_every_method<test::text_task>(1e-4);
}

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
  test::check_same(t.run(s), t.run(eight));
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
