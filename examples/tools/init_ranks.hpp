#pragma once
#include <loraga/init/eva.hpp>
#include <loraga/init/gora.hpp>
#include <loraga/rank_allocation.hpp>

#include "init_layers.hpp"

// Ranks per layer, from what is measured of the layers: a first pass over the files, one layer at a time.

namespace tools {

/// One layer as any of the rules sees it.
struct measured_layer {
  layer_spectrum spectrum;
  double importance = 0;
  std::vector<double> explained;
};

/// errors  numeric_error for matrices that are not finite, or zero
inline measured_layer measure(cpu& be, init_options const& o, target const& t, layer_sources const& from) {
  measured_layer m{{t.out, t.in, {}, 1, t.module}, 0, {}};
  automatic_svd const svd{o.quality, o.seed};
  matrix<float, cpu> memory;
  auto const gradient = [&] { return mean_gradient<dense_gradient<cpu>>(be, *from.gradients, t, from.gradient); };
  switch (o.rule()) {
    case rank_rule::spectra: {
      index_t const k = std::min({o.facts().triplets_per_rank * o.most(), t.out, t.in});
      auto const found = [&] {
        if (!o.weight_spectra()) return gradient().top(be, svd, k);
        auto const w = weight_of(be, from.base, t, memory);
        return svd.top(be, view_list(&w, 1), k);
      }();
      if (found.flags[0] != svd_usable)
        raise<numeric_error>("--ranks spectra(" + t.module + ")", "matrix", describe_flags(found.flags[0]),
                             "finite and not zero");
      for (float const s : read_all(be, found[0].s)) m.spectrum.sigma.push_back(static_cast<double>(s));
      if (o.by_coverage.value_or(true)) m.spectrum.energy = found.energy[0];
      break;
    }
    case rank_rule::importance:
      m.importance = gora_importance(be, weight_of(be, from.base, t, memory), gradient());
      break;
    case rank_rule::explained: {
      auto const x = statistics(be, *from.inputs, t, from.input);
      auto const most = static_cast<index_t>(o.rho.value_or(2) * static_cast<double>(o.rank) + 0.5);
      eva_convergence<cpu> look;
      look.look(be, svd, x, std::min(most, t.in));
      m.explained = look.explained();
      break;
    }
    default:
      break;
  }
  from.base.forget(t.place.weight);
  return m;
}

struct chosen_ranks {
  std::vector<index_t> ranks;  ///< 0 for a layer that gets no adapter
  double mean;                 ///< the rank that the same budget gives every layer
};

/// errors  value_error, shape_error as the library's rules, naming the option
inline chosen_ranks choose_ranks(init_options const& o, std::vector<measured_layer> const& layers) {
  std::vector<layer_spectrum> spectra;
  std::vector<layer_importance> importances;
  std::vector<std::vector<double>> explained;
  for (auto const& l : layers) {
    spectra.push_back(l.spectrum);
    importances.push_back({l.spectrum.out, l.spectrum.in, l.importance, l.spectrum.name});
    explained.push_back(l.explained);
  }
  chosen_ranks chosen{std::vector<index_t>(layers.size(), o.rank), static_cast<double>(o.rank)};
  auto const told = [](char const* option, auto const& choose) {
    try {
      return choose();
    } catch (error const& e) {
      throw value_error(std::string(option) + ": " + e.what() + "; see RANKS in --help");
    }
  };
  if (o.rule() == rank_rule::spectra) {
    index_t const one = parameters_at(spectra, 1);
    rank_budget const budget{o.parameters.value_or(o.rank * one), o.least(), o.most(), o.facts().triplets_per_rank};
    chosen.mean = static_cast<double>(budget.parameters) / static_cast<double>(one);
    chosen.ranks = told("--ranks spectra", [&] { return allocate_ranks(spectra, budget); });
  }
  if (o.rule() == rank_rule::importance)
    chosen.ranks =
        told("--ranks importance", [&] { return ranks_by_importance(importances, o.rank, o.least(), o.most()); });
  if (o.rule() == rank_rule::explained)
    chosen.ranks = told("--ranks explained", [&] { return redistribute_ranks(explained, o.rank, o.rho.value_or(2)); });
  if (auto const highest = o.facts().highest; highest && o.rule() != rank_rule::same)
    for (std::size_t i = 0; i < layers.size(); ++i)
      chosen.ranks[i] = std::min(chosen.ranks[i], highest(layers[i].spectrum.out, layers[i].spectrum.in));
  return chosen;
}

/// s of a layer: by its own rank with alpha/sqrt(r); else alpha/r with the mean rank, the same for all layers.
inline double scale_of(init_options const& o, index_t rank, double mean) {
  return o.alpha / (o.stable_ranks() ? std::sqrt(static_cast<double>(rank)) : mean);
}

}  // namespace tools
