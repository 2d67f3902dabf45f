// shows combine, over_ranks, gradient_average, streamed_gradient, together, agree, loopback_group, counted_communicator
/// A job of many ranks: each sees its own micro-batches, all end with the same adapter. The same text runs on MPI or
/// NCCL.
template <class C>
double one_rank(cpu& be, C& comm, matrix_view<float, host_space> dY, matrix_view<float, host_space> X, index_t r) {
  return together(be, comm, [&] {  // a rank that fails ends all of them with its sentence
    incremental_gradient<cpu> G(be, dY.rows, X.rows, {.rank = r});
    G.add_outer(be, dY, X);
    combine(be, comm, G);  // now what all ranks saw

    lora<float, cpu> adapter(be, dY.rows, X.rows, r, classic_scaling{}, {.dropout_rank = comm.rank()});
    initialise(be, adapter, lora_ga_init{}, G, frozen_pair_anchor{}, over_ranks(comm));

    gradient_average<cpu> average;
    average.add(adapter);
    adapter.zero_gradient(be);                                      // ... and backward
    average.run(be, comm, static_cast<double>(dY.cols));            // weighted by tokens; then the optimiser's own step
    auto const total = agree(be, comm, "tokens", {}, "any words");  // what every rank brought
    return static_cast<double>(total.size()) * G.weight();
  });
}
/// Ranks as threads of one process, and what they sent.
inline double many_ranks(matrix_view<float, host_space> dY, matrix_view<float, host_space> X, index_t r) {
  double sent = 0;
  loopback_group(3).run([&](loopback_communicator& comm) {
    cpu be(1);
    counted_communicator counted(comm);
    one_rank(be, counted, dY, X, r);
    if (comm.rank() == 0) sent = counted.count.sent;
  });
  return sent;
}
/// An estimate that all ranks follow together, micro-batch by micro-batch.
template <class C>
index_t stream_over_ranks(cpu& be, C& comm, matrix_view<float, host_space> dY, matrix_view<float, host_space> X,
                          index_t r) {
  layer_size const layers[] = {{dY.rows, X.rows}};
  streamed_gradient<C, cpu> G(be, comm, layers, {.rank = r});
  G.add_outer(be, 0, dY, X);  // of every layer, in the same order on all ranks
  G.flush(be);
  return G.estimate()[0].count();
}
