// shows sign_gradient
/// Triplets of sign(G), the direction of AdamW's first step: what LoRA-SB starts from.
inline svd_result<float, cpu> sign_triplets(cpu& be, matrix_view<float, host_space> dW, index_t r) {
  sign_gradient<cpu> G(be, dW.rows, dW.cols);
  G.add(be, dW);
  return G.top(be, automatic_svd{}, r);
}
