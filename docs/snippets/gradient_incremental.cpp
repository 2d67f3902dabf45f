// shows incremental_gradient, gradient_options
/// The same without a matrix of out x in numbers: a truncated SVD follows the micro-batches.
inline svd_result<float, cpu> streamed_triplets(cpu& be, matrix_view<float, host_space> dY,
                                                matrix_view<float, host_space> X, index_t r) {
  incremental_gradient<cpu> G(be, dY.rows, X.rows, {.rank = r, .power_steps = 1});
  G.add_outer(be, dY, X);
  return G.top(be, automatic_svd{}, 2 * r);  // at most G.most_triplets()
}
