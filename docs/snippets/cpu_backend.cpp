// shows cpu, scratch, workspace
/// Y = W*X by the backend's own product, with scratch memory that is kept from call to call.
inline double squared_output(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X) {
  scratch<cpu> temporary(be);  // given back at the end of the scope
  auto Y = temporary.matrix<float>(W.rows, X.cols);
  be.gemm(1, W, X, 0, Y);  // Y = 1*W*X + 0*Y
  auto cell = temporary.matrix<double>(1, 1);
  sum_of_squares(be, Y, cell);
  return read_scalar(be, cell);
}
