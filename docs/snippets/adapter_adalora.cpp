// shows adalora, adalora_budget, adalora_schedule
/// AdaLoRA: a budget over all layers prunes triplets, from rank 6 on average to 4. Returns how many are left.
inline index_t prune_to_budget(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                               matrix_view<float, host_space> dY) {
  adalora<float, cpu> first(be, W.rows, W.cols, 6, adalora_scaling{.alpha = 8}, {.seed = 1});
  adalora<float, cpu> second(be, W.rows, W.cols, 6, adalora_scaling{.alpha = 8}, {.seed = 2});
  // A new adalora is started already, with E = 0; an initialiser's start goes with frozen_pair_anchor.
  adalora_budget<float, cpu> budget(be, {&first, &second},
                                    {.initial_rank = 6, .target_rank = 4, .warmup = 1, .final = 2, .total = 8});
  adamw<float, cpu> optimiser(be);
  for (auto* adapter : {&first, &second}) add_adapter(be, optimiser, *adapter, {.learning_rate = 1e-3});
  adalora<float, cpu>::tape tape;
  matrix<float, cpu> Y(be, W.rows, X.cols);
  matrix<double, cpu> term(be, 1, 1);
  for (int step = 0; step < 8; ++step) {
    for (auto* adapter : {&first, &second}) {
      be.gemm(1, W, X, 0, Y.view());
      adapter->forward(be, W, X, Y.view(), tape);
      adapter->zero_gradient(be);
      (void)adapter->backward(be, W, X, dY, tape);
    }
    budget.add_orthogonality(be, 0.5, term.view());  // the rest of AdaLoRA's loss
    optimiser.step(be);
    budget.update(be);  // before gradients are zeroed
  }
  return budget.kept();
}
