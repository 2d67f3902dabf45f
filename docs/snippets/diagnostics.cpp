// shows coverage, effective_rank, cosine, sign_similarity, magnitude_similarity, first_step_alignment, step_alignment
/// How much of a gradient 2r directions hold, how alike two samples' gradients are, how well a start follows G.
inline double look_at_gradient(cpu& be, dense_gradient<cpu> const& G, matrix_view<float const, host_space> other,
                               matrix_view<float, host_space> a, matrix_view<float, host_space> b) {
  index_t const r = a.rows;
  auto const best = G.top(be, gram{}, 2 * r);
  double const share = coverage(be, best, 0, 2 * r);  // of ||G||^2
  double const directions = effective_rank(read_all(be, best[0].s));
  double const signs = sign_similarity(be, G.sum(), other);
  double const sizes = magnitude_similarity(be, G.sum(), other);
  step_alignment const step = first_step_alignment(be, G.sum(), a, b, best);  // attained = 1 is LoRA-GA's
  return share + 0 * (directions + signs + sizes) + 0 * step.cosine;
}
