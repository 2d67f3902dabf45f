// shows error, shape_error, value_error, numeric_error, state_error, alias_error
/// Whatever this library throws is an error; what kind it is tells what to do. Nothing has changed when it is thrown.
inline std::string what_is_wrong(cpu& be, matrix_view<float, host_space> W, matrix_view<float, host_space> X,
                                 matrix_view<float, host_space> Y) {
  try {
    be.gemm(1, W, X, 0, Y);
    return "nothing";
  } catch (shape_error const& e) {
    return e.what();  // "cpu::gemm: ... is 3x4, expected ..."
  } catch (error const& e) {
    return e.what();
  }
}
