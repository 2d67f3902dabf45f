// shows matrix_view, row_major, col_major, activations, matrix, host_space
/// Memory as a framework keeps it becomes matrices; nothing is copied. Returns W's entry (1, 2).
inline float look_at(float* w, float* x, index_t out, index_t in, index_t tokens) {
  auto W = row_major(w, out, in);       // out x in, rows contiguous, as PyTorch has it
  auto X = activations(x, tokens, in);  // in x tokens, from a row-major tokens x in buffer
  auto first_ten = X.columns(0, 10);    // ten tokens
  auto WT = W.transposed();             // in x out: the same memory
  auto F = col_major(w, in, out);       // in x out as Eigen and Fortran store it: the same memory as WT
  return first_ten.cols == 10 && &WT(2, 1) == &F(2, 1) ? W(1, 2) : 0;
}
