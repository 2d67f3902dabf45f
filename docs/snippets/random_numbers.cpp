// shows random_stream, fill_normal, fill_uniform, derive, random_uniform
/// Equal seeds give equal numbers on every machine and any number of threads.
inline void random_weights(cpu& be, matrix_view<float, host_space> w, matrix_view<float, host_space> noise) {
  random_stream const stream{.seed = 42, .id = 0};
  fill_normal(be, w, stream, 0.02);                   // mean 0, deviation 0.02
  fill_uniform(be, noise, derive(stream, 1), -1, 1);  // another stream under the same seed
}
