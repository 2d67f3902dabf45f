// shows any_adapter, adapter_kind
/// The adapter's class chosen at run time; the rest of a program does not change.
inline index_t choose_adapter(cpu& be, std::string const& name, matrix_view<float, host_space> W,
                              matrix_view<float, host_space> X, matrix_view<float, host_space> dY) {
  adapter_kind const kind = name == "dora"      ? adapter_kind::dora
                            : name == "adalora" ? adapter_kind::adalora
                            : name == "lora_sb" ? adapter_kind::lora_sb
                                                : adapter_kind::lora;
  any_adapter<float, cpu> adapter(kind, be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8});
  initialise(be, adapter, pissa_init{}, W, frozen_pair_anchor{});
  any_adapter<float, cpu>::tape tape;
  matrix<float, cpu> Y(be, W.rows, X.cols);
  be.gemm(1, W, X, 0, Y.view());
  adapter.forward(be, W, X, Y.view(), tape);
  (void)adapter.backward(be, W, X, dY, tape);
  if (auto* budgeted = adapter.get<adalora<float, cpu>>()) return budgeted->e().rows;  // what only one class has
  return adapter.trainable();
}
