// shows model_gradient, layer_size, gradient_turn, projected_gradient
/// The gradients of all layers in one object, whose memory is known before it begins and which says when it has seen
/// enough. A second pass over the same sample refines them.
inline index_t sample_until_settled(cpu& be, matrix_view<float, host_space> dY, matrix_view<float, host_space> X,
                                    index_t r) {
  std::vector<layer_size> const sizes{{dY.rows, X.rows}, {dY.rows, X.rows}};
  gradient_options const options{.rank = r};
  if (model_gradient<cpu>::bytes(sizes, options) > 1 << 30) return 0;
  model_gradient<cpu> G(be, sizes, options);
  index_t batches = 0;
  while (batches < 4 && !G.settled(0.1)) {  // a sine: the last batch turned the directions by less than that
    for (index_t i = 0; i < G.size(); ++i) G[i].add_outer(be, dY, X);  // each layer's own, in a real backward pass
    ++batches;
  }
  projected_gradient<cpu> refined(be, G[0]);
  for (index_t n = 0; n < batches; ++n) refined.add_outer(be, dY, X);
  return refined.count();  // refined is what initialise takes for layer 0, or G[0] as it is
}
