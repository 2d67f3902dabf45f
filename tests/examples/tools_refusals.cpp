// What loraga_init refuses, ranks that methods have of their own, and what it makes of captured inputs.
#include "tools_captured.hpp"

using namespace loraga;
using test::captured_model;
using test::host;
using tools::start_method;

TEST_CASE("loraga_init: EVA and GoRA have ranks of their own; a layer without a rank gets no adapter", "[examples]") {
  captured_model m;
  m.options.rank = 1;
  m.use(start_method::gora);
  CHECK(m.options.rule() == tools::rank_rule::importance);
  m.use(start_method::eva);
  CHECK(m.options.rule() == tools::rank_rule::explained);
  // the inputs of the first layer vary in two directions, those of the second in one, those of the third in all
  auto const noise = 0.01 * test::random(24, 10, 1);
  test::write_model(
      m.folder / "inputs",
      {{"l.0.q.X", 5 * test::orthonormal(24, 2, 2) * test::transpose(test::orthonormal(10, 2, 3)) + noise},
       {"l.0.v.X", test::random(24, 1, 4) * test::random(1, 10, 5) + noise},
       {"l.1.q.X", test::random(24, 14, 6)}});
  m.options.inputs = m.folder / "inputs";
  tools::init_job job(m.be, m.options);
  auto const layers = job.run();
  REQUIRE(layers.size() == 2);
  CHECK(layers[0].rank == 2);
  CHECK(layers[0].scale == 16);
  CHECK(layers[0].coverage > 0.99);
  CHECK(layers[1].rank == 1);
  CHECK(layers[1].coverage > 0.99);
  CHECK(job.rankless() == std::vector<std::string>{"l.1.q"});
  auto const records = load_peft(m.options.out).records;
  REQUIRE(records.size() == 2);
  CHECK(records[0].scale == Approx(16));
  CHECK(records[1].scale == Approx(16));
}

TEST_CASE("loraga_init: options that do not fit are refused by name, before anything is written", "[examples]") {
  using o = tools::init_options;
  using enum start_method;
  captured_model m;
  auto const spoiled = [&](auto member, auto value, std::string const& what) {
    m.options.*member = value;
    CHECK_THAT(m.refusal(), Catch::Contains(what));
    CHECK(!std::filesystem::exists(m.options.out));
  };
  auto const plain = m.options;
  auto const refused = [&](start_method method, auto member, auto value, std::string const& what) {
    m.options = plain;
    m.use(method);
    spoiled(member, value, what);
  };
  refused(pissa, &o::gamma, 16.0, "--gamma is given with --method pissa, expected with lora-ga");
  refused(pissa, &o::scale, ga_scale::gd, "--scale is given");
  refused(gaussian_pair, &o::scale, ga_scale::gd, "expected stable or unit");
  refused(gaussian_pair, &o::gamma, 16.0, "--scale stable");
  refused(lora, &o::clip, true, "--clip");
  refused(lora, &o::directions, ga_directions::ArBr, "--directions");
  refused(lora, &o::step, 1.0, "--step is given with --method lora, expected with gora or lora-sb");
  refused(eva, &o::part, corda_part::kpm, "--part");
  refused(eva, &o::inputs, "", "--inputs is missing");
  refused(lora_ga, &o::gradients, "", "--gradients is missing");
  refused(pissa, &o::gradients, "x", "--gradients is given, expected nothing");
  refused(gora, &o::inputs, "x", "--inputs is given, expected nothing");
  refused(lora, &o::skip_unreached, true, "--skip-unreached");
  refused(orthogonal, &o::rank, 3, "--rank is 3, expected an even number");
  refused(orthogonal, &o::ranks, tools::rank_rule::spectra, "--ranks");
  refused(lora, &o::rank, 0, "--rank is 0");
  refused(lora_ga, &o::rho, 2.0, "--rho is given");
  refused(lora_ga, &o::parameters, 100, "--parameters is given, expected with --ranks spectra");
  refused(lora_ga, &o::by_coverage, false, "--gain");
  refused(eva, &o::least_rank, 1, "--least-rank is given");
  refused(gora, &o::most_rank, 0, "--most-rank is 0");
  refused(gora, &o::least_rank, 9, "--ranks importance: ranks_by_importance(l.0.v)");
  refused(milora, &o::relative_to, std::nullopt, "--relative-to is missing");
  refused(lora_one, &o::relative_to, peft_base::anchored, "starts a step ahead");
  refused(eva, &o::relative_to, peft_base::anchored, "changes no base");
  refused(pissa, &o::relative_to, peft_base::anchored, "--anchored-base is missing");
  refused(pissa, &o::anchored_base, "x", "--anchored-base is given");
  refused(lora_ga, &o::targets, module_selection{}, "--family or --target-modules is missing");
  m.options = plain;
  m.options.ranks = tools::rank_rule::spectra;
  m.use(lora_ga);
  spoiled(&o::parameters, 10, "--ranks spectra: allocate_ranks");
  m.options.parameters.reset();
  spoiled(&o::least_rank, 5, "l.0.v");
  m.options.ranks = tools::rank_rule::explained;
  m.options.least_rank.reset();
  m.use(lora);
  spoiled(&o::rho, 0.5, "--rho is 0.5");
}

TEST_CASE("loraga_init: inputs are looked at as gradients are", "[examples]") {
  captured_model m;
  m.use(start_method::corda);
  auto const with = [&](host const& x, std::string const& name = "l.0.q.X") {
    std::filesystem::remove(m.folder / "inputs");
    test::write_model(m.folder / "inputs", {{name, x}, {"l.0.v.X.0", m.layers[1].x[0]}, {"l.1.q.X", m.layers[2].x[0]}});
    m.options.inputs = m.folder / "inputs";
    return m.refusal();
  };
  CHECK(with(m.layers[0].x[0]).empty());
  CHECK_THAT(with(0 * m.layers[0].x[0]), Catch::Contains("l.0.q: its inputs are zero"));
  CHECK_THAT(with(test::random(4, 9, 1)), Catch::Contains("expected tokens x 10"));
  CHECK_THAT(with(m.layers[0].x[0], "other.X"), Catch::Contains("l.0.q: its inputs are missing"));
  auto bad = m.layers[0].x[0];
  bad(1, 1) = std::nan("");
  CHECK_THAT(with(bad), Catch::Contains("l.0.q: its inputs are not finite"));
  m.options.skip_unreached = true;
  CHECK(with(0 * m.layers[0].x[0]).empty());
  CHECK(load_peft(m.options.out, peft_base::original).records.size() == 2);
  m.options.embeddings = {"q"};
  CHECK_THAT(with(m.layers[0].x[0]), Catch::Contains("an embedding"));
}
