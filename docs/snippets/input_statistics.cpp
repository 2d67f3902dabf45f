// shows input_statistics, input_options
/// Mean and scatter of a layer's inputs, for starts that look at inputs (EVA, CorDA).
inline double tokens_seen(cpu& be, matrix_view<float, host_space> X) {
  input_statistics<cpu> inputs(be, X.rows, {.by_peak = false});
  inputs.add(be, X);  // in x tokens, once per micro-batch
  return inputs.mass();
}
