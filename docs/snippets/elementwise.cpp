// shows axpby
/// Elementwise work of your own is a functor, which runs on every backend.
struct relu {
  matrix_view<float, host_space> y;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) = y(i, j) > 0 ? y(i, j) : 0; }
};
inline void positive_part(cpu& be, matrix_view<float, host_space> x, matrix_view<float, host_space> y) {
  axpby(be, 1, x, 0, y);  // y = 1*x + 0*y
  be.for_each(y.rows, y.cols, relu{y});
}
