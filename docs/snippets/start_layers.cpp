// shows initialise, check_layers, layer
/// All layers of a model in one call. What is wrong is said before the sample is drawn, and names the layer.
inline bool start_all_layers(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                             matrix_view<float, host_space> dY) {
  index_t const out = W.rows, in = W.cols, r = 4;
  std::vector<lora<float, cpu>> adapters;
  std::vector<incremental_gradient<cpu>> gradients;
  for (int i = 0; i < 2; ++i) {
    adapters.emplace_back(be, out, in, r, rank_stable_scaling{.alpha = 8});
    gradients.emplace_back(be, out, in, gradient_options{.rank = r});
  }
  std::vector layers{layer{&adapters[0], W, &gradients[0], std::string("q_proj")},
                     layer{&adapters[1], W, &gradients[1], std::string("v_proj")}};

  check_layers(layers, lora_ga_init{}, frozen_pair_anchor{}, false);  // no gradient is there yet
  for (auto& g : gradients) g.add_outer(be, dY, X);                   // the sample
  initialise(be, layers, lora_ga_init{}, frozen_pair_anchor{});       // W and the sources come with the layers
  return adapters[0].paired() && adapters[1].paired();
}
