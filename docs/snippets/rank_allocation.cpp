// shows allocate_ranks, layer_spectrum, rank_budget, parameters_at, redistribute_ranks, ranks_by_importance, layer_importance
/// Ranks for two layers that cost together what rank 8 on both would.
inline std::vector<index_t> ranks_by_spectrum(std::vector<double> const& sigma_q, std::vector<double> const& sigma_v) {
  std::vector<layer_spectrum> const layers{{.out = 512, .in = 512, .sigma = sigma_q, .name = "q"},
                                           {.out = 128, .in = 512, .sigma = sigma_v, .name = "v"}};
  return allocate_ranks(layers, {.parameters = parameters_at(layers, 8), .least = 2, .triplets_per_rank = 2});
}
/// EVA's rule, by the variance that each direction of a layer explains; GoRA's, by one number per layer.
inline index_t ranks_by_other_rules() {
  std::vector<std::vector<double>> const explained{{0.5, 0.2, 0.1, 0.05}, {0.3, 0.3, 0.2, 0.1}};
  auto const eva = redistribute_ranks(explained, 2);
  std::vector<layer_importance> const layers{{.out = 512, .in = 512, .importance = 3e-4},
                                             {.out = 128, .in = 512, .importance = 1e-4}};
  auto const gora = ranks_by_importance(layers, 8, 4, 32);
  return eva[0] + eva[1] + gora[0] + gora[1];
}
