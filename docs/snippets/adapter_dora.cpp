// shows dora
/// DoRA: its backward returns another dY than it was given, and a merge rescales the rows of W.
inline double rescaled_step(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                            matrix_view<float, host_space> dY) {
  dora<float, cpu> adapter(be, W.rows, W.cols, 4, rank_stable_scaling{.alpha = 8});
  initialise(be, adapter, kaiming_init{});
  dora<float, cpu>::tape tape;
  matrix<float, cpu> product(be, W.rows, X.cols), Y(be, W.rows, X.cols), dX(be, X.rows, X.cols);
  be.gemm(1, W, X, 0, product.view());
  be.copy(product.view(), Y.view());                                  // a bias would be added here
  adapter.forward(be, W, X, product.view(), Y.view(), tape);          // with W*X at hand, which saves a product
  auto const D = adapter.backward(be, W, X, dY, tape, 0, dX.view());  // D = (g/N)*dY, for the base's own backward
  be.gemm(1, W.transposed(), D, 1, dX.view());
  return cosine(be, Y.view(), product.view());  // 1: the start changes nothing
}
