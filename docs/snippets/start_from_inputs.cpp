// shows eva_init, eva_convergence, corda_init, corda_part
/// Starts from what the layer's inputs were. Returns how many of EVA's directions have settled after three looks.
inline index_t start_from_inputs(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X) {
  index_t const r = 4;
  lora<float, cpu> adapter(be, W.rows, W.cols, r, rank_stable_scaling{.alpha = 8});

  input_statistics<cpu> inputs(be, X.rows);
  eva_convergence<cpu> convergence;
  index_t settled = 0;
  for (int batch = 0; batch < 3 && settled < r; ++batch) {
    inputs.add(be, X);
    settled = convergence.look(be, automatic_svd{}, inputs, r);
  }
  initialise(be, adapter, eva_init{}, inputs);  // B = 0, so no anchor; explained() is for redistribute_ranks

  input_statistics<cpu> peaks(be, X.rows, {.by_peak = true});
  peaks.add(be, X);
  initialise(be, adapter, corda_init{.part = corda_part::ipm}, W, peaks, frozen_pair_anchor{});
  return settled;
}
