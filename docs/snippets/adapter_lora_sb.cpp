// shows lora_sb
/// LoRA-SB trains r*r numbers a layer. Returns how many.
inline index_t train_r_only(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                            matrix_view<float, host_space> dY) {
  sign_gradient<cpu> G(be, W.rows, W.cols);
  G.add_outer(be, dY, X);
  lora_sb<float, cpu> adapter(be, W.rows, W.cols, 4, constant_scaling{1});
  initialise(be, adapter, lora_sb_init{.step = 1e-4}, G, no_anchor{});
  lora_sb<float, cpu>::tape tape;
  matrix<float, cpu> Y(be, W.rows, X.cols);
  be.gemm(1, W, X, 0, Y.view());
  adapter.forward(be, W, X, Y.view(), tape);    // Y += s*B*R*A*X
  (void)adapter.backward(be, W, X, dY, tape);   // no dX is asked for; dY itself comes back
  matrix<float, cpu> copy(be, W.rows, W.cols);  // a W to evaluate or to export, beside the base's own
  be.copy(W, copy.view());
  adapter.add_change(be, copy.view());
  return adapter.trainable();
}
