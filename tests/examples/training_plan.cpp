// The training examples' plans, results and options: what is done, skipped, recorded and refused.
#include "../../examples/training/plan.cpp"
#include "../../examples/training/results.cpp"
#include "../../examples/training/spec_json.cpp"
#include "../support/catch.hpp"
#include "../support/folder.hpp"

namespace training_tests {

using namespace training;

namespace {

/// A device that does nothing but count.
struct counting_laboratory {
  int trained = 0, measured = 0;
  train_spec last;
  laboratory get() {
    return {[&](train_spec const& s, checkpointing const&, int, auto const&) {
              ++trained;
              last = s;
              if (s.rank == 999) throw std::runtime_error("refused");
              train_record r;
              r.loss = 0.5;
              r.steps = {0, 1};
              return r;
            },
            [&](gradient_spec const& s, int) {
              ++measured;
              return std::vector<gradient_layer>{
                  {"a.weight", 4, 3, std::vector<double>(s.ranks.size(), 0.25), {1, 2}, 0.5, 0.75},
                  {"b.weight", 4, 3, std::vector<double>(s.ranks.size(), 0.75), {1, 2}, 1, 0.25}};
            },
            {}};
  }
};
char const* const plan_text =
    "{\"id\":\"x\",\"kind\":\"train\",\"method\":\"lora\",\"set\":\"movie\",\"seed\":3,\"lr\":1e-3,\"steps\":7}\n"
    "\n"
    "{\"id\":\"bad\",\"kind\":\"train\",\"method\":\"lora\",\"set\":\"movie\",\"seed\":3,\"rank\":999}\n"
    "{\"id\":\"g\",\"kind\":\"gradient\",\"set\":\"nyt\",\"seed\":1,\"ranks\":[8,32],"
    "\"against\":{\"sample_batches\":128,\"sample_batch\":16}}\n";

}  // namespace

TEST_CASE("a plan is done once: results are appended, errors recorded, known ids skipped", "[examples]") {
  test::folder folder;
  options o;
  o.plan = (folder / "plan").string();
  o.results = (folder / "results").string();
  o.threads = 1;
  test::write_file(o.plan, plan_text);
  CHECK(sets_of_plan(o.plan) == std::set<std::string>{"movie", "nyt"});
  counting_laboratory lab;
  run_plan(lab.get(), o);
  CHECK(lab.trained == 2);
  CHECK(lab.measured == 1);
  auto const text = test::read_file(o.results);
  results_file const results(o.results);
  CHECK(results.find("x")->at("loss") == 0.5);
  CHECK(results.find("x")->at("spec").at("steps") == 7);
  CHECK(results.find("bad")->at("error") == "refused");
  auto const& g = *results.find("g");
  CHECK(g.at("layers")[1].at("name") == "b");
  CHECK(g.at("layers")[1].at("coverage").at("32") == 0.75);
  CHECK(g.at("sign_similarity") == 0.75);
  CHECK(g.at("magnitude_similarity") == 0.5);
  CHECK(!g.at("layers")[0].contains("spectrum"));

  run_plan(lab.get(), o);
  CHECK(lab.trained == 2);
  CHECK(test::read_file(o.results) == text);

  test::write_file(o.results, text.substr(0, text.size() - 5));  // killed while writing
  run_plan(lab.get(), o);
  CHECK(lab.measured == 2);
  CHECK(test::read_file(o.results) == text);

  test::write_file(o.results, "no result\n" + text);
  CHECK_THROWS_WITH(run_plan(lab.get(), o), Catch::Contains("line 1"));
  CHECK(test::read_file(o.results) == "no result\n" + text);
}

TEST_CASE("a plan's lines: defaults are the method's, and what is wrong is named", "[examples]") {
  auto const line = [](std::string const& more) {
    return json::parse("{\"id\":\"x\",\"kind\":\"train\",\"method\":\"lora+\",\"set\":\"movie\",\"seed\":3" + more +
                       "}");
  };
  auto const s = parse_train(line(""));
  CHECK(s.ratio == 16);
  CHECK(s.rate == find_method("lora+").rate);
  CHECK(s.rank == 8);
  CHECK(parse_train(train_json(s)).rate == s.rate);
  CHECK(train_json(s).dump() ==
        "{\"kind\":\"train\",\"method\":\"lora+\",\"set\":\"movie\",\"part\":\"test\",\"rank\":8,\"alpha\":16.0,"
        "\"gamma\":16.0,\"lr\":0.0003,\"ratio\":16.0,\"seed\":3,\"steps\":200,\"batch\":16,\"directions\":\"ArB2r\","
        "\"sample_batches\":4,\"sample_batch\":16,\"evaluate_every\":25}");
  auto const long_run = parse_train(line(",\"epochs\":2,\"warmup\":0"));
  CHECK(train_json(long_run)["epochs"] == 2);
  CHECK(train_json(long_run)["warmup"] == 0);
  CHECK(!train_json(long_run).contains("steps"));
  CHECK_THROWS_WITH(parse_train(line(",\"rnak\":8")), Catch::Contains("'rnak' is unknown"));
  CHECK_THROWS_WITH(parse_train(line(",\"rank\":\"8\"")), Catch::Contains("'rank'"));
  CHECK_THROWS_WITH(parse_train(line(",\"rank\":-8")), Catch::Contains("'rank'"));
  for (auto const* key : {"steps", "batch", "rank", "evaluate_every", "sample_batches", "sample_batch"})
    CHECK_THROWS_WITH(parse_train(line(",\"" + std::string(key) + "\":0")), Catch::Contains(key));
  CHECK_THROWS_WITH(parse_train(line(",\"steps\":1,\"epochs\":1")), Catch::Contains("both"));
  CHECK_THROWS_WITH(parse_gradient(json::parse("{\"set\":\"nyt\"}")), Catch::Contains("'seed' is missing"));

  test::folder folder;
  options o;
  o.plan = (folder / "plan").string();
  o.results = (folder / "results").string();
  counting_laboratory lab;
  auto const refused = [&](std::string const& text, std::string const& why) {
    test::write_file(o.plan, text);
    CHECK_THROWS_WITH(run_plan(lab.get(), o), Catch::Contains(why));
    CHECK(!std::filesystem::exists(o.results));
  };
  refused(std::string(plan_text) + plan_text, "id 'x' is there twice");
  refused("{\"id\":\"x\"}", "'kind'");
  refused("{\"id\":\"x\",\"kind\":\"dance\"}", "dance");
  refused("{\"id\":", "line 1");
}

TEST_CASE("a record comes back from its line", "[examples]") {
  train_record r;
  r.trainable = 5, r.n_train = 6, r.init_seconds = 0.5, r.loss = 0.1, r.init_peak_bytes = 7;
  r.steps = {0, 3};
  r.losses = {1.0 / 3, 0.25};
  auto const again = parse_record(record_json(r));
  CHECK(again.trainable == 5);
  CHECK(again.losses == r.losses);
  CHECK(again.steps == r.steps);
  CHECK(record_json(again) == record_json(r));
}

}  // namespace training_tests
