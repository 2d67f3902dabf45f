// shows lora_one_init, gora_init, gora_importance, lora_sb_init
/// Starts that mean to change the model, one step ahead: they go with no_anchor, and no W is needed.
inline double start_ahead(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> dW) {
  dense_gradient<cpu> G(be, W.rows, W.cols);
  sign_gradient<cpu> signs(be, W.rows, W.cols);  // of AdamW's first step
  G.add(be, dW), signs.add(be, dW);
  lora<float, cpu> adapter(be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8});
  lora_sb<float, cpu> small(be, W.rows, W.cols, 4, constant_scaling{1});

  initialise(be, adapter, lora_one_init{.gamma = 128}, G, no_anchor{});
  initialise(be, small, lora_sb_init{.step = 1e-4}, signs, no_anchor{});
  initialise(be, adapter, gora_init{.step = 5e-2}, G, no_anchor{});  // takes the whole gradient, not triplets
  return gora_importance(be, W, G);                                  // ranks_by_importance shares ranks by this number
}
