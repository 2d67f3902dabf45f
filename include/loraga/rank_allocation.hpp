#pragma once
#include <algorithm>
#include <cmath>
#include <loraga/core/config.hpp>
#include <loraga/core/error.hpp>
#include <span>
#include <string>
#include <vector>

// Ranks per layer from what was measured of the layers, on host numbers only. alpha stays the caller's. With
// rank_stable_scaling it may stay as it is; with classic_scaling alpha*r_l/r keeps every layer's s, as EVA does.

namespace loraga {

/// One layer as rank allocation sees it.
struct layer_spectrum {
  index_t out, in;            ///< of W: a rank costs out + in parameters
  std::vector<double> sigma;  ///< leading singular values of the mean gradient, descending
  /// What sigma^2 is measured against. ||G||_F^2 (svd_result::energy): coverage counts, and every layer alike. 1:
  /// layers with larger gradients count for more.
  double energy = 1;
  std::string name = {};  ///< for messages

  std::string label(std::size_t position) const { return layer_label(name, position); }
};

/// What allocate_ranks may spend, and within which bounds.
struct rank_budget {
  index_t parameters;             ///< of all adapters together; parameters_at gives those of a common rank
  index_t least = 1, most = 256;  ///< ranks of every layer
  index_t triplets_per_rank = 2;  ///< what a rank covers: 2 with lora_ga_init, 1 with pissa_init or lora_one_init
};

/// Parameters of adapters of one rank on all layers: the budget of a mean rank.
inline index_t parameters_at(std::span<layer_spectrum const> layers, index_t rank) {
  index_t sum = 0;
  for (auto const& l : layers) sum += rank * (l.out + l.in);
  return sum;
}

/// The highest rank a layer can have: of the budget, of its shape, and of the values measured.
inline index_t highest_rank(layer_spectrum const& l, rank_budget const& budget) {
  auto const measured = static_cast<index_t>(l.sigma.size());
  return std::min(budget.most, std::min({l.out, l.in, measured}) / budget.triplets_per_rank);
}

/// Throws what allocate_ranks refuses.
inline void check_allocation(std::span<layer_spectrum const> layers, rank_budget const& budget) {
  std::string const where = "allocate_ranks";
  auto const number = [](index_t x) { return static_cast<double>(x); };
  require_value(budget.least >= 1, number(budget.least), where, "least", "at least 1");
  require_value(budget.most >= budget.least, number(budget.most), where, "most", "at least `least`");
  require_value(budget.triplets_per_rank == 1 || budget.triplets_per_rank == 2, number(budget.triplets_per_rank), where,
                "triplets_per_rank", "1 or 2");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    std::string const at = where + "(" + l.label(i) + ")";
    if (l.out < 1 || l.in < 1)
      raise<shape_error>(at, "shape", std::to_string(l.out) + "x" + std::to_string(l.in), "at least 1x1");
    require_value(is_finite(l.energy) && l.energy > 0, l.energy, at, "energy", "a positive finite number");
    for (std::size_t k = 0; k < l.sigma.size(); ++k)
      require_value(is_finite(l.sigma[k]) && l.sigma[k] >= 0 && (k == 0 || l.sigma[k] <= l.sigma[k - 1]), l.sigma[k],
                    at, "sigma " + std::to_string(k), "finite, not negative, descending");
    if (highest_rank(l, budget) < budget.least)
      raise<value_error>(
          at, "least", std::to_string(budget.least),
          "at most " + std::to_string(highest_rank(l, budget)) + ", what shape and measured values allow");
  }
  index_t const needed = parameters_at(layers, budget.least);
  if (budget.parameters < needed)
    raise<value_error>(where, "parameters", std::to_string(budget.parameters),
                       "at least " + std::to_string(needed) + ", which rank " + std::to_string(budget.least) +
                           " takes on every layer");
}

/// Ranks that cover the most of the layers' gradients for the parameters they cost.
/// Every layer gets `least`. Then the rank with the largest gain per parameter is given next, until none fits. Ties go
/// to the earlier layer; ranks that gain nothing are not given.
/// Greedy is right because sigma descends, and so do a layer's gains. What was given gains more per parameter than what
/// was not, so no other choice covers more with the parameters spent. When the next rank no longer fits, the rest goes
/// to cheaper layers; that last part may miss the best choice by less than one rank's gain.
/// math    maximise sum_l sum_{i < t*r_l} sigma_li^2/energy_l subject to sum_l r_l*(out_l + in_l) <= parameters,
///         t = triplets_per_rank
/// errors  value_error for a budget below `least` on every layer, for bounds no layer can meet, and for spectra that
///         are not finite, not negative and descending; shape_error for an empty shape
inline std::vector<index_t> allocate_ranks(std::span<layer_spectrum const> layers, rank_budget const& budget) {
  check_allocation(layers, budget);
  std::vector<index_t> ranks(layers.size(), budget.least);
  index_t left = budget.parameters - parameters_at(layers, budget.least);
  auto const gain = [&](std::size_t l) {  // per parameter, of one more rank; 0 where that cannot be
    auto const& layer = layers[l];
    index_t const cost = layer.out + layer.in;
    if (ranks[l] >= highest_rank(layer, budget) || cost > left) return 0.0;
    double sum = 0;
    for (index_t i = 0; i < budget.triplets_per_rank; ++i) {
      double const s = layer.sigma[static_cast<std::size_t>(budget.triplets_per_rank * ranks[l] + i)];
      sum += s * s / layer.energy;
    }
    return sum / static_cast<double>(cost);
  };
  while (true) {
    double best = 0;
    std::size_t where = 0;
    for (std::size_t l = 0; l < layers.size(); ++l)
      if (double const g = gain(l); g > best) best = g, where = l;
    if (best == 0) return ranks;
    ++ranks[where];
    left -= layers[where].out + layers[where].in;
  }
}

/// One layer as ranks_by_importance sees it.
struct layer_importance {
  index_t out, in;
  double importance;      ///< not negative, of any unit: gora_importance
  std::string name = {};  ///< for messages
};

/// GoRA's rule: ranks are shared out by importance. Together they cost what `rank` on every layer would, where a rank
/// costs the square root of its parameters.
/// Where bounds move a rank up or down, no other rank makes up for it. So the ranks may cost more or fewer parameters
/// than `rank` everywhere would.
/// math    r_l = round(share_l*rank*sum_k sqrt(out_k + in_k)/sqrt(out_l + in_l)), halves up, then into [least, most]
///         and to at most min(out_l, in_l); share_l = importance_l/sum_k importance_k
/// errors  value_error if rank < 1, least < 1, most < least, an importance is negative or not finite, or all are 0;
///         shape_error if `least` exceeds min(out, in)
/// source  arXiv:2502.12171, with rank 8, least 4, most 32 there; the authors' code rounds down
inline std::vector<index_t> ranks_by_importance(std::span<layer_importance const> layers, index_t rank, index_t least,
                                                index_t most) {
  char const* const where = "ranks_by_importance";
  require_value(rank >= 1, static_cast<double>(rank), where, "rank", "at least 1");
  require_value(least >= 1, static_cast<double>(least), where, "least", "at least 1");
  require_value(most >= least, static_cast<double>(most), where, "most", "at least `least`");
  auto const cost = [](layer_importance const& l) { return std::sqrt(static_cast<double>(l.out + l.in)); };
  double budget = 0, sum = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    std::string at(where);  // in pieces: g++ 12 warns of array bounds in a chain of +
    at.append("(").append(layer_label(l.name, i)).append(")");
    if (std::min(l.out, l.in) < least)
      raise<shape_error>(at, "shape", std::to_string(l.out) + "x" + std::to_string(l.in),
                         "at least `least`, " + std::to_string(least) + ", each way");
    require_value(is_finite(l.importance) && l.importance >= 0, l.importance, at, "importance", "finite, not negative");
    budget += static_cast<double>(rank) * cost(l);
    sum += l.importance;
  }
  require_value(layers.empty() || (sum > 0 && is_finite(sum)), sum, where, "sum of importances",
                "a positive finite number");
  std::vector<index_t> ranks;
  for (auto const& l : layers) {
    double const wanted = std::floor(l.importance / sum * budget / cost(l) + 0.5);
    index_t const highest = std::min(most, std::min(l.out, l.in));
    ranks.push_back(static_cast<index_t>(std::clamp(wanted, static_cast<double>(least), static_cast<double>(highest))));
  }
  return ranks;
}

/// EVA's redistribution: `rank` times the number of layers is how many ranks there are. They go to the directions that
/// explain most of their layer's variance. A layer may get 0: it gets no adapter.
/// `explained` holds each layer's shares of variance, descending: eva_convergence::explained, at least round(rho*rank)
/// of them, or all there are. Ties go to the earlier direction, then to the earlier layer.
/// math    the rank*layers largest of all explained_li, i < round(rho*rank)
/// errors  value_error if rank < 1, rho < 1, or shares are not finite, not negative and descending
/// source  arXiv:2410.07170; rho = 2 there
inline std::vector<index_t> redistribute_ranks(std::span<std::vector<double> const> explained, index_t rank,
                                               double rho = 2) {
  char const* const where = "redistribute_ranks";
  require_value(rank >= 1, static_cast<double>(rank), where, "rank", "at least 1");
  require_value(is_finite(rho) && rho >= 1, rho, where, "rho", "at least 1");
  // Both are positive, so this rounds.  NOLINTNEXTLINE(bugprone-incorrect-roundings)
  auto const most = static_cast<std::size_t>(rho * static_cast<double>(rank) + 0.5);
  struct direction {
    double share;
    std::size_t number, layer;
  };
  std::vector<direction> all;
  for (std::size_t l = 0; l < explained.size(); ++l)
    for (std::size_t i = 0; i < explained[l].size(); ++i) {
      double const share = explained[l][i];
      require_value(is_finite(share) && share >= 0 && (i == 0 || share <= explained[l][i - 1]), share,
                    std::string(where) + "(layer " + std::to_string(l) + ")", "share " + std::to_string(i),
                    "finite, not negative, descending");
      if (i < most) all.push_back({share, i, l});
    }
  std::stable_sort(all.begin(), all.end(), [](direction const& a, direction const& b) {
    return a.share != b.share ? a.share > b.share : a.number < b.number;
  });
  all.resize(std::min(all.size(), static_cast<std::size_t>(rank) * explained.size()));
  std::vector<index_t> ranks(explained.size(), 0);
  for (auto const& d : all) ++ranks[d.layer];
  return ranks;
}

}  // namespace loraga
