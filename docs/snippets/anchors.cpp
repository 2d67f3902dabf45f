// shows in_place_anchor, frozen_pair_anchor, no_anchor, unanchored, Anchor
/// What keeps the model unchanged when B*A is not 0 at the start. Returns how alike Y is before and after a start.
inline double start_unchanged(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X) {
  matrix<float, cpu> before(be, W.rows, X.cols), after(be, W.rows, X.cols);
  be.gemm(1, W, X, 0, before.view());
  lora<float, cpu> adapter(be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8});
  dense_gradient<cpu> G(be, W.rows, W.cols);
  G.add_outer(be, before.view(), X);  // stands for a gradient

  initialise(be, adapter, lora_one_init{}, G, no_anchor{});          // the method means to change the model
  initialise(be, adapter, lora_ga_init{}, G, unanchored{});          // an ablation: this method does not
  initialise(be, adapter, lora_ga_init{}, G, frozen_pair_anchor{});  // passes subtract s*B0*A0; W may be const
  initialise(be, adapter, lora_ga_init{}, W, G, in_place_anchor{});  // W -= s*B0*A0

  be.gemm(1, W, X, 0, after.view());
  adapter.forward(be, W, X, after.view());
  adapter.merge(be, W);  // training would come first; W is what it was, plus what was learnt
  return cosine(be, before.view(), after.view());
}
