// Every start of loraga_init, against what the library's own initialise makes of the same numbers; ranks against the
// library's rules.
#include <loraga/adapter/lora_sb.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/init/eva.hpp>
#include <loraga/init/gaussian.hpp>
#include <loraga/init/gaussian_pair.hpp>
#include <loraga/init/gora.hpp>
#include <loraga/init/kaiming.hpp>
#include <loraga/init/lora_one.hpp>
#include <loraga/init/lora_sb.hpp>
#include <loraga/init/milora.hpp>
#include <loraga/init/olora.hpp>
#include <loraga/init/orthogonal.hpp>
#include <loraga/init/pissa.hpp>
#include <loraga/initialise.hpp>
#include <loraga/svd/eigen.hpp>

#include "../support/backend.hpp"
#include "tools_model.hpp"

using namespace loraga;
using test::host;
using tools::start_method;

namespace {

struct captured_layer {
  std::string name;
  host w, dy[2], x[2];

  captured_layer(std::string n, index_t out, index_t in, double ratio, std::uint64_t seed) : name(std::move(n)) {
    w = test::random(out, in, seed);
    for (std::uint64_t b : {0, 1}) {
      // directions of falling size, so that ranks differ
      dy[b] = test::random(24, out, seed + 10 + b) * test::diagonal(out, out, test::geometric(out, ratio));
      x[b] = test::random(24, in, seed + 20 + b) * test::diagonal(in, in, test::geometric(in, 0.95));
    }
  }
};

/// A model of three layers, and what was captured of it: the same file for gradients and inputs.
struct captured_model {
  test::folder folder;
  cpu be{1};
  std::vector<captured_layer> layers{{"l.0.q", 12, 10, 0.95, 1}, {"l.0.v", 8, 10, 0.3, 50}, {"l.1.q", 9, 14, 0.7, 100}};
  tools::init_options options;

  captured_model() {
    test::named_weights weights, captured;
    for (auto const& l : layers) {
      weights.emplace_back(l.name + ".weight", l.w);
      for (int b : {0, 1}) {
        captured.emplace_back(l.name + ".dY." + std::to_string(b), l.dy[b]);
        captured.emplace_back(l.name + ".X." + std::to_string(b), l.x[b]);
      }
    }
    test::write_model(folder / "base", weights);
    test::write_model(folder / "captured", captured);
    options.base = folder / "base";
    options.out = folder / "out";
    options.rank = 2;
    options.targets.names = {"q", "v"};
    options.seed = 3;
    options.may_replace = overwrite::yes;
  }
  void use(start_method method) {
    options.method = method;
    options.gradients.clear();
    options.gradients = options.needs_gradients() ? folder / "captured" : "";
    options.inputs = options.needs_inputs() ? folder / "captured" : "";
    options.relative_to.reset();
    options.anchored_base.clear();
    if (options.has_anchor()) options.relative_to = peft_base::original;
  }
  std::vector<adapter_record> run() {
    tools::init_job(be, options).run();
    return load_peft(options.out, peft_base::anchored).records;
  }
  std::string refusal() {
    return test::message_of([&] { tools::init_job(be, options).run(); });
  }

  template <class G>
  G gradient(captured_layer const& l) {
    G g(be, l.w.rows, l.w.cols);
    for (int b : {0, 1}) {
      auto const dy = test::upload<float>(be, test::transpose(l.dy[b])),
                 x = test::upload<float>(be, test::transpose(l.x[b]));
      g.add_outer(be, dy.view(), x.view());
    }
    return g;
  }
  input_statistics<cpu> inputs(captured_layer const& l, bool by_peak = false) {
    input_statistics<cpu> s(be, l.w.cols, {by_peak});
    for (int b : {0, 1}) s.add(be, test::upload<float>(be, test::transpose(l.x[b])).view());
    return s;
  }
  template <class A = lora<float, cpu>, class I, class G, class Svd, class X>
  adapter_record started(captured_layer const& l, I const& init, G const* source, Svd const& svd, X const& anchor,
                         double s, index_t rank = 2) {
    A adapter(be, l.w.rows, l.w.cols, rank, constant_scaling{s});
    auto const w = test::upload<float>(be, l.w);
    layer<A, matrix_view<float const, host_space>, G> const list[] = {{&adapter, w.view(), source, l.name}};
    initialise(be, std::span<std::remove_extent_t<decltype(list)>>(list), init, svd, anchor);
    return take_record(be, adapter, l.name);
  }
};

/// What the library makes of a layer by itself.
adapter_record expected(captured_model& m, std::size_t i, double s) {
  using enum start_method;
  auto const& l = m.layers[i];
  std::uint64_t const seed = 3 + i;
  automatic_svd const svd{svd_quality::balanced, 3};
  no_source const* const none = nullptr;
  frozen_pair_anchor const frozen;
  auto const mean = m.gradient<dense_gradient<cpu>>(l);
  auto const plain = m.inputs(l), by_peak = m.inputs(l, true);
  switch (m.options.method) {
    case lora:
      return m.started(l, kaiming_init{seed}, none, gram{}, frozen, s);
    case gaussian:
      return m.started(l, gaussian_init{seed}, none, gram{}, frozen, s);
    case orthogonal:
      return m.started(l, orthogonal_init{seed}, none, gram{}, frozen, s);
    case gaussian_pair:
      return m.started(l, gaussian_pair_init{m.options.pair_is_stable(), 16, seed}, none, gram{}, frozen, s);
    case pissa:
      return m.started(l, pissa_init{}, none, svd, frozen, s);
    case milora:
      return m.started(l, milora_init{}, none, gram{}, frozen, s);
    case olora:
      return m.started(l, olora_init{}, none, gram{}, frozen, s);
    case corda:
      if (m.options.part == corda_part::kpm)
        return m.started(l, corda_init{corda_part::kpm}, &by_peak, eigen_svd{}, frozen, s);
      return m.started(l, corda_init{}, &by_peak, svd, frozen, s);
    case eva:
      return m.started(l, eva_init{}, &plain, svd, frozen, s);
    case lora_ga: {
      lora_ga_init const ga{16, m.options.directions.value_or(ga_directions::ArB2r),
                            m.options.scale.value_or(ga_scale::stable), m.options.clip, seed};
      return m.started(l, ga, &mean, svd, frozen, s);
    }
    case lora_one:
      return m.started(l, lora_one_init{}, &mean, svd, no_anchor{}, s);
    case gora:
      return m.started(l, gora_init{0.05, seed}, &mean, gram{}, no_anchor{}, s);
    default: {
      auto const signs = m.gradient<sign_gradient<cpu>>(l);
      return m.started<loraga::lora_sb<float, cpu>>(l, lora_sb_init{}, &signs, svd, no_anchor{}, s);
    }
  }
}

/// The program's files for the method that is set, both ways of anchoring.
void check_start(captured_model& m) {
  auto const& facts = m.options.facts();
  INFO(facts.name);
  m.use(m.options.method);
  m.options.ranks = tools::rank_rule::same;
  m.use(m.options.method);  // now without what its own ranks would need
  double const s = 16 / (m.options.stable_ranks() ? std::sqrt(2.0) : 2.0);
  auto const records = m.run();
  REQUIRE(records.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    auto const e = expected(m, i, s);
    auto const& r = records[i];
    CHECK(r.module == m.layers[i].name);
    CHECK(r.scale == Approx(s).epsilon(1e-15));
    CHECK(r.rank() == (m.options.has_anchor() ? 4 : 2));
    CHECK(test::distance(test::rows(test::host_of(r.a), 0, 2), test::host_of(e.a)) < 1e-6);
    CHECK(test::distance(test::columns(test::host_of(r.b), 0, 2), test::host_of(e.b)) < 1e-6);
    auto const change = test::change_of(r);
    if (facts.model == tools::start_model::ahead) {
      CHECK(test::largest(change) > 1e-5);
      CHECK(test::distance(change, test::change_of(e)) < 1e-5);
    } else {
      CHECK(test::largest(change) < 2e-5);
    }
  }
  if (!m.options.has_anchor()) return;
  m.options.relative_to = peft_base::anchored;
  m.options.anchored_base = m.folder / "changed";
  auto const anchored = m.run();
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(anchored[i].rank() == 2);
    auto const w = test::read(m.options.anchored_base, m.layers[i].name + ".weight");
    CHECK(test::distance(w + test::change_of(anchored[i]), m.layers[i].w) < 2e-5);
    CHECK(test::distance(w, m.layers[i].w) > 1e-3);
  }
  std::filesystem::remove(m.options.anchored_base);
}

}  // namespace

TEST_CASE("loraga_init: every start is the library's, and leaves the model where the method says", "[examples]") {
  captured_model m;
  for (auto const& facts : tools::all_methods()) {
    m.options.ranks.reset();
    m.options.method = facts.method;
    check_start(m);
  }
  m.options.method = start_method::gaussian_pair;
  m.options.scale = ga_scale::stable;
  CHECK(m.options.stable_ranks());
  check_start(m);
  m.options.scale.reset();
  m.options.method = start_method::corda;
  m.options.part = corda_part::kpm;
  check_start(m);
  m.options.part.reset();
  m.options.method = start_method::lora_ga;
  m.options.clip = true;
  for (auto const directions :
       {ga_directions::ArB2r, ga_directions::A2rBr, ga_directions::ArBr, ga_directions::random}) {
    m.options.directions = directions;
    check_start(m);
  }
  m.options.clip = false;
  for (auto const scale :
       {ga_scale::gd, ga_scale::unit, ga_scale::weight_svd, ga_scale::peft_stable, ga_scale::peft_weight_svd}) {
    m.options.scale = scale;
    check_start(m);
  }
}

TEST_CASE("loraga_init: ranks by spectra, importance and explained variance are the library's", "[examples]") {
  captured_model m;
  using tools::rank_rule;
  auto const ranks_of = [&](start_method method, rank_rule rule) {
    m.options.ranks = rule;
    m.use(method);
    std::vector<index_t> ranks(3, 0);
    for (auto const& r : m.run())
      for (std::size_t i = 0; i < 3; ++i)
        if (r.module == m.layers[i].name) {
          ranks[i] = r.rank() / (m.options.has_anchor() ? 2 : 1);
          double const own = std::sqrt(static_cast<double>(ranks[i]));
          CHECK(r.scale ==
                Approx(16 / (m.options.stable_ranks() ? own : static_cast<double>(m.options.rank))).epsilon(1e-12));
        }
    return ranks;
  };
  auto const spectra = [&](bool of_weights, bool by_coverage) {
    std::vector<layer_spectrum> all;
    for (auto const& l : m.layers) {
      host const g = 0.5 * (test::transpose(l.dy[0]) * l.x[0] + test::transpose(l.dy[1]) * l.x[1]);
      host const& from = of_weights ? l.w : g;
      all.push_back({l.w.rows, l.w.cols, test::jacobi_svd(from).s, by_coverage ? test::inner(from, from) : 1, l.name});
    }
    return all;
  };
  auto const gradients = spectra(false, true);
  m.options.rank = 3;
  rank_budget const budget{parameters_at(gradients, 3), 1, 12, 2};
  auto const wanted = allocate_ranks(gradients, budget);
  CHECK(wanted != std::vector<index_t>{3, 3, 3});
  CHECK(ranks_of(start_method::lora_ga, rank_rule::spectra) == wanted);
  rank_budget single = budget;
  single.triplets_per_rank = 1;
  CHECK(ranks_of(start_method::lora, rank_rule::spectra) == allocate_ranks(gradients, single));
  CHECK(ranks_of(start_method::pissa, rank_rule::spectra) == allocate_ranks(spectra(true, true), single));
  m.options.by_coverage = false;
  CHECK(ranks_of(start_method::lora_one, rank_rule::spectra) == allocate_ranks(spectra(false, false), single));
  m.options.by_coverage.reset();
  m.options.parameters = parameters_at(gradients, 3);
  m.options.rank = 7;  // nothing to do with the budget then, but for the highest
  m.options.most_rank = 12;
  CHECK(ranks_of(start_method::lora_ga, rank_rule::spectra) == wanted);
  m.options.rank = 2;
  m.options.parameters.reset();
  m.options.most_rank.reset();

  std::vector<layer_importance> importances;
  std::vector<std::vector<double>> explained;
  for (auto const& l : m.layers) {
    auto const w = test::upload<float>(m.be, l.w);
    importances.push_back({l.w.rows, l.w.cols, gora_importance(m.be, w.view(), m.gradient<dense_gradient<cpu>>(l))});
    host both(48, l.w.cols);
    for (index_t j = 0; j < both.cols; ++j) {
      double mean = 0;
      for (index_t i = 0; i < 48; ++i) mean += (both(i, j) = l.x[i / 24](i % 24, j)) / 48;
      for (index_t i = 0; i < 48; ++i) both(i, j) -= mean;
    }
    auto shares = test::jacobi_svd(both).s;
    for (double& x : shares) x = x * x / test::inner(both, both);
    explained.push_back(shares);
  }
  CHECK(ranks_of(start_method::gora, rank_rule::importance) == ranks_by_importance(importances, 2, 1, 8));
  CHECK(ranks_of(start_method::eva, rank_rule::explained) == redistribute_ranks(explained, 2));
  m.options.rho = 3;
  CHECK(ranks_of(start_method::corda, rank_rule::explained) == redistribute_ranks(explained, 2, 3));
}

TEST_CASE("loraga_init: EVA and GoRA have ranks of their own; a layer without a rank gets no adapter", "[examples]") {
  captured_model m;
  m.options.rank = 1;
  m.use(start_method::eva);
  CHECK(m.options.rule() == tools::rank_rule::explained);
  // the second layer's inputs vary in one direction alone, and no more than two ranks go to any layer
  test::named_weights captured;
  for (auto const& l : m.layers) {
    bool const flat = l.name != "l.0.v";
    captured.emplace_back(
        l.name + ".X", flat ? test::random(24, l.w.cols, 9)
                            : test::random(24, 1, 7) * test::random(1, l.w.cols, 8) + 0.01 * test::random(24, 10, 6));
  }
  test::write_model(m.folder / "inputs", captured);
  m.options.inputs = m.folder / "inputs";
  m.options.rank = 1;
  tools::init_job job(m.be, m.options);
  auto const layers = job.run();
  CHECK(layers.size() + job.rankless().size() == 3);
  index_t sum = 0;
  for (auto const& l : layers) sum += l.rank;
  CHECK(sum == 3);
  CHECK(!std::isnan(layers[0].coverage));
  m.use(start_method::gora);
  CHECK(m.options.rule() == tools::rank_rule::importance);
}

TEST_CASE("loraga_init: options that do not fit are refused by name, before anything is written", "[examples]") {
  captured_model const fresh;
  auto const refused = [&](start_method method, auto change, std::string const& what) {
    captured_model m;
    m.use(method);
    change(m);
    CHECK_THAT(m.refusal(), Catch::Contains(what));
    CHECK(!std::filesystem::exists(m.options.out));
  };
  using enum start_method;
  refused(
      pissa, [](auto& m) { m.options.gamma = 16; }, "--gamma is given with --method pissa, expected with lora-ga");
  refused(
      pissa, [](auto& m) { m.options.scale = ga_scale::gd; }, "--scale is given");
  refused(
      gaussian_pair, [](auto& m) { m.options.scale = ga_scale::gd; }, "expected stable or unit");
  refused(
      gaussian_pair, [](auto& m) { m.options.gamma = 16; }, "--scale stable");
  refused(
      lora, [](auto& m) { m.options.clip = true; }, "--clip");
  refused(
      lora, [](auto& m) { m.options.directions = ga_directions::ArBr; }, "--directions");
  refused(
      lora, [](auto& m) { m.options.step = 1; }, "--step is given with --method lora, expected with gora or lora-sb");
  refused(
      eva, [](auto& m) { m.options.part = corda_part::kpm; }, "--part");
  refused(
      eva, [](auto& m) { m.options.inputs.clear(); }, "--inputs is missing");
  refused(
      lora_ga, [](auto& m) { m.options.gradients.clear(); }, "--gradients is missing");
  refused(
      pissa, [](auto& m) { m.options.gradients = "x"; }, "--gradients is given, expected nothing");
  refused(
      gora, [](auto& m) { m.options.inputs = "x"; }, "--inputs is given, expected nothing");
  refused(
      lora, [](auto& m) { m.options.skip_unreached = true; }, "--skip-unreached");
  refused(
      orthogonal, [](auto& m) { m.options.rank = 3; }, "--rank is 3, expected an even number");
  refused(
      orthogonal, [](auto& m) { m.options.ranks = tools::rank_rule::spectra; }, "--ranks");
  refused(
      lora, [](auto& m) { m.options.rank = 0; }, "--rank is 0");
  refused(
      lora_ga, [](auto& m) { m.options.rho = 2; }, "--rho is given");
  refused(
      lora_ga, [](auto& m) { m.options.parameters = 100; }, "--parameters is given, expected with --ranks spectra");
  refused(
      lora_ga, [](auto& m) { m.options.by_coverage = false; }, "--gain");
  refused(
      eva, [](auto& m) { m.options.least_rank = 1; }, "--least-rank is given");
  refused(
      gora, [](auto& m) { m.options.least_rank = 5, m.options.most_rank = 4; }, "--least-rank is 5, expected 1 to 4");
  refused(
      gora, [](auto& m) { m.options.least_rank = 9; }, "--ranks importance: ranks_by_importance(l.0.v)");
  refused(
      milora, [](auto& m) { m.options.relative_to.reset(); }, "--relative-to is missing");
  refused(
      lora_one, [](auto& m) { m.options.relative_to = peft_base::anchored; }, "starts a step ahead");
  refused(
      eva, [](auto& m) { m.options.relative_to = peft_base::anchored; }, "changes no base");
  refused(
      pissa, [](auto& m) { m.options.relative_to = peft_base::anchored; }, "--anchored-base is missing");
  refused(
      pissa, [](auto& m) { m.options.anchored_base = "x"; }, "--anchored-base is given");
  auto const spectra = [](auto& m) { m.options.ranks = tools::rank_rule::spectra; };
  refused(
      lora_ga, [&](auto& m) { spectra(m), m.options.parameters = 10; }, "--ranks spectra: allocate_ranks");
  refused(
      lora_ga, [&](auto& m) { spectra(m), m.options.least_rank = 5; }, "l.0.v");
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
