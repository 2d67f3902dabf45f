// shows background_gradient, background_worker, offloaded_gradient, ForkableBackend
/// Two layers' estimates, made beside the training by one thread (on a GPU on a second stream).
inline index_t feed_in_background(cpu& be, matrix_view<float, host_space> dY, matrix_view<float, host_space> X,
                                  index_t r) {
  background_worker<cpu> worker(be);  // one for all layers; it must outlive them
  background_gradient<incremental_gradient<cpu>, cpu> first(worker, dY.rows, X.rows, gradient_options{.rank = r});
  offloaded_gradient<cpu> second(worker, be, dY.rows, X.rows);  // the whole sum, in host memory
  first.add_outer(be, dY, X);                                   // returns at once: dY and X may change
  second.add_outer(be, dY, X);
  auto const found = first.top(be, automatic_svd{}, 2 * r);  // waits for the worker
  return found.triplets() + second.count();
}
