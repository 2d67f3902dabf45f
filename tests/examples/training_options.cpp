// The training examples' command lines.
#include "../../examples/training/options.cpp"
#include "../../examples/vision/options.cpp"
#include "../support/catch.hpp"

namespace training_tests {

using namespace training;

TEST_CASE("a command line sets every field of a run", "[examples]") {
  options o;
  CLI::App app;
  add_options(app, o, {"gamma"});
  char const* words[] = {"program",
                         "--rank",
                         "3",
                         "--lr",
                         "1e-3",
                         "--evaluate-every",
                         "7",
                         "--sample-batch",
                         "9",
                         "--methods",
                         "lora",
                         "lora-ga-32",
                         "--epochs",
                         "2",
                         "--directions",
                         "random",
                         "--warmup",
                         "0",
                         "--threads",
                         "2",
                         "--batch",
                         "5",
                         "--alpha",
                         "4",
                         "--ratio",
                         "2",
                         "--sample-batches",
                         "3"};
  read_options(app, o, static_cast<int>(std::size(words)), const_cast<char**>(words));
  CHECK(o.run.rank == 3);
  CHECK(o.run.rate == 1e-3);
  CHECK(o.run.evaluate_every == 7);
  CHECK(o.run.sample.batch == 9);
  CHECK(o.run.sample.batches == 3);
  CHECK(o.run.epochs == 2);
  CHECK(o.run.directions == "random");
  CHECK(o.run.warmup == 0);
  CHECK(o.methods == std::vector<std::string>{"lora", "lora-ga-32"});
  auto const refused = [](std::vector<char const*> more) {
    options wrong;
    CLI::App line;
    add_options(line, wrong, {});
    more.insert(more.begin(), "program");
    CHECK_THROWS_AS(line.parse(static_cast<int>(more.size()), const_cast<char**>(more.data())), CLI::ParseError);
  };
  refused({"--rank", "0"});
  refused({"--lr", "0"});
  refused({"--lr", "nan"});
  refused({"--methods", "sgd"});
  refused({"--steps", "3", "--epochs", "2"});
  refused({"--seed", "3"});
  refused({"--device", "tpu"});
  options twice;
  twice.methods = {"lora", "lora"};
  CHECK_THROWS_WITH(require_distinct("--methods", twice.methods), Catch::Contains("--methods"));
}

TEST_CASE("the vision example compares its methods in their order, once per gamma", "[examples]") {
  auto const methods = [](std::vector<char const*> more) {
    more.insert(more.begin(), {"vision", "--rates", "r"});
    return vision::parse_options(static_cast<int>(more.size()), const_cast<char**>(more.data())).methods;
  };
  using names = std::vector<std::string>;
  CHECK(methods({}) ==
        names{"full", "lora", "rslora", "lora+", "pissa", "lora-ga-64", "lora-ga-16", "ga-random-64", "ga-random-16"});
  CHECK(methods({"--gamma", "2.5", "--methods", "dora", "lora-ga-2.5", "lora"}) ==
        names{"lora", "lora-ga-2.5", "dora"});
  CHECK_THROWS_WITH(methods({"--gamma", "2", "2"}), Catch::Contains("--gamma"));
  CHECK_THROWS_WITH(methods({"--seeds", "2", "2"}), Catch::Contains("--seeds"));
  CHECK_THROWS_WITH(methods({"--sweep", "--methods", "lora"}), Catch::Contains("--sweep"));
  CHECK_THROWS_WITH(methods({"--plan", "p"}), Catch::Contains("--results"));
}

}  // namespace training_tests
