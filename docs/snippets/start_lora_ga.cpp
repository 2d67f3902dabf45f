// shows initialise, lora_ga_init, ga_directions, ga_scale, gaussian_pair_init, Initialiser
/// LoRA-GA on an estimated gradient, and what its paper compares it with. Returns max|B| of the last start.
inline double start_by_lora_ga(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                               matrix_view<float, host_space> dY) {
  index_t const r = 4;
  incremental_gradient<cpu> G(be, W.rows, W.cols, {.rank = r});  // keeps 4r triplets, of which LoRA-GA takes 2r
  G.add_outer(be, dY, X);                                        // once per micro-batch of a small sample
  lora<float, cpu> adapter(be, W.rows, W.cols, r, rank_stable_scaling{.alpha = 8});

  // Any order will do behind the initialiser; this anchor needs no W.
  initialise(be, adapter, lora_ga_init{.gamma = 16}, G, frozen_pair_anchor{});
  initialise(be, adapter, lora_ga_init{.directions = ga_directions::random, .scale = ga_scale::unit}, G,
             frozen_pair_anchor{});
  initialise(be, adapter, lora_ga_init{.clip = true}, W, G, automatic_svd{}, frozen_pair_anchor{});  // clip looks at W
  initialise(be, adapter, gaussian_pair_init{.stable = true}, frozen_pair_anchor{});  // no gradient at all

  matrix<double, cpu> largest(be, 1, 1);
  max_abs(be, adapter.b(), largest.view());
  return read_scalar(be, largest.view());
}
