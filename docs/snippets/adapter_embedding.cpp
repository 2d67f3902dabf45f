// shows embedding, embedding_options, embedding_init
/// LoRA for an embedding: table is vocabulary x dim, as PyTorch has it.
inline double adapt_embedding(cpu& be, float* table, index_t vocabulary, index_t dim,
                              std::vector<std::int64_t> const& tokens, matrix_view<float, host_space> Y,
                              matrix_view<float, host_space> dY) {
  auto W = row_major(table, vocabulary, dim).transposed();
  auto const ids = row_major(tokens.data(), 1, static_cast<index_t>(tokens.size()));
  embedding<float, cpu> layer(be, dim, vocabulary, 4, rank_stable_scaling{.alpha = 8}, {.check_ids = true});
  initialise(be, layer.adapter(), embedding_init{.seed = 1});

  gather_columns(be, W, ids, Y);  // the base's own look-up
  layer.forward(be, ids, Y);      // Y += s*B*A(:, ids); to evaluate it is the same, there is no tape
  layer.adapter().zero_gradient(be);
  layer.backward(be, ids, dY);
  layer.adapter().merge(be, W);
  return W(0, 0);
}
