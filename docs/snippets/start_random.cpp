// shows kaiming_init, gaussian_init, orthogonal_init, gaussian_pair_init
/// Starts that look at nothing. B*A = 0, so they need no anchor, but for the last one.
inline double start_at_random(cpu& be, index_t out, index_t in) {
  lora<float, cpu> adapter(be, out, in, 4, classic_scaling{.alpha = 8}, {.seed = 3});  // its own seed: its own numbers
  initialise(be, adapter, gaussian_init{});
  initialise(be, adapter, orthogonal_init{.seed = 1});
  initialise(be, adapter, gaussian_pair_init{}, frozen_pair_anchor{});
  initialise(be, adapter, kaiming_init{.seed = 1});  // LoRA's own
  matrix<double, cpu> largest(be, 1, 1);
  max_abs(be, adapter.a(), largest.view());
  return read_scalar(be, largest.view());
}
