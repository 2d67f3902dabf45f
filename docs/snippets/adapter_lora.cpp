// shows lora, lora_options, Adapter
/// A training step around your own base product, a pass to evaluate, and the merge: both give the same Y.
inline double step_and_merge(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                             matrix_view<float, host_space> Y, matrix_view<float, host_space> dY) {
  lora<float, cpu> adapter(be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8}, {.dropout = 0.1, .seed = 1});
  initialise(be, adapter, kaiming_init{});
  adamw<float, cpu> optimiser(be);
  add_adapter(be, optimiser, adapter, {.learning_rate = 1e-2});

  lora<float, cpu>::tape tape;         // what backward needs from forward; keep it from step to step
  be.gemm(1, W, X, 0, Y);              // the base layer, in any format
  adapter.forward(be, W, X, Y, tape);  // Y += s*B*A*drop(X)
  adapter.zero_gradient(be);
  matrix<float, cpu> dX(be, X.rows, X.cols);
  auto const dZ = adapter.backward(be, W, X, dY, tape, 0, dX.view());  // dX = 0*dX + the adapter's share
  be.gemm(1, W.transposed(), dZ, 1, dX.view());                        // the base's share
  optimiser.step(be);

  be.gemm(1, W, X, 0, Y);
  adapter.forward(be, W, X, Y);  // to evaluate: no dropout and no tape
  adapter.merge(be, W);          // W += s*B*A: now the base does it alone
  matrix<float, cpu> merged(be, Y.rows, Y.cols);
  be.gemm(1, W, X, 0, merged.view());
  adapter.unmerge(be, W);
  return cosine(be, Y, merged.view());
}
