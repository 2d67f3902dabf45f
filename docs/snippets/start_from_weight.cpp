// shows pissa_init, milora_init, olora_init
/// Starts from W itself. The adapter takes over a part of W; the anchor takes that part out of W.
inline double start_from_weight(cpu& be, matrix_view<float const, host_space> W) {
  lora<float, cpu> adapter(be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8});
  initialise(be, adapter, olora_init{}, W, frozen_pair_anchor{});           // a QR of W's first columns
  initialise(be, adapter, milora_init{}, W, gram{}, frozen_pair_anchor{});  // the smallest triplets: exact
  initialise(be, adapter, pissa_init{}, W, subspace{.width = 12}, frozen_pair_anchor{});  // the largest: any method
  matrix<float, cpu> principal(be, W.rows, W.cols);
  be.gemm(adapter.scale(), adapter.b(), adapter.a(), 0, principal.view());
  return cosine(be, W, principal.view());
}
