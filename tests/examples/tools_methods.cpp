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
#include <loraga/svd/eigen.hpp>

#include "tools_captured.hpp"

using namespace loraga;
using test::captured_model;
using test::host;
using tools::start_method;

namespace {

/// What the library makes of a layer by itself.
adapter_record library_start(captured_model& m, std::size_t i, double s) {
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
void check_files(captured_model& m) {
  auto const& facts = m.options.facts();
  INFO(facts.name);
  m.use(m.options.method);
  m.options.ranks = tools::rank_rule::same;
  m.use(m.options.method);  // now without what its own ranks would need
  double const s = 16 / (m.options.stable_ranks() ? std::sqrt(2.0) : 2.0);
  auto const records = m.run();
  REQUIRE(records.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    auto const e = library_start(m, i, s);
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
    check_files(m);
  }
  m.options.method = start_method::gaussian_pair;
  m.options.scale = ga_scale::stable;
  CHECK(m.options.stable_ranks());
  check_files(m);
  m.options.scale.reset();
  m.options.method = start_method::corda;
  m.options.part = corda_part::kpm;
  check_files(m);
  m.options.part.reset();
  m.options.method = start_method::lora_ga;
  m.options.clip = true;
  for (auto const directions :
       {ga_directions::ArB2r, ga_directions::A2rBr, ga_directions::ArBr, ga_directions::random}) {
    m.options.directions = directions;
    check_files(m);
  }
  m.options.clip = false;
  for (auto const scale :
       {ga_scale::gd, ga_scale::unit, ga_scale::weight_svd, ga_scale::peft_stable, ga_scale::peft_weight_svd}) {
    m.options.scale = scale;
    check_files(m);
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
