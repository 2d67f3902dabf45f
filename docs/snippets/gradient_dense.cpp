// shows dense_gradient, GradientAccumulator, ReadableGradient
/// The mean gradient of some micro-batches, and its 2r leading triplets.
inline svd_result<float, cpu> triplets_of_sum(cpu& be, matrix_view<float, host_space> dY,
                                              matrix_view<float, host_space> X, index_t r) {
  dense_gradient<cpu> G(be, dY.rows, X.rows);  // out x in numbers
  G.add_outer(be, dY, X);                      // dW = dY*XT of one micro-batch; add(be, dW) takes it ready-made
  G.add_outer(be, dY, X, 0.5);                 // another one, which counts half
  return G.top(be, automatic_svd{}, 2 * r);
}
