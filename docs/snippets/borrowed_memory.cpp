// shows borrowed_factors, lora
/// An adapter over a framework's own tensors, whose storage the framework may replace.
inline float adapt_in_place(cpu& be, std::vector<float>& a, std::vector<float>& b, index_t out, index_t in, index_t r) {
  std::vector<float> da(a.size()), db(b.size());
  auto const views = [&] {  // a is r x in, b out x r, rows contiguous, as PyTorch has them
    return borrowed_factors<float, host_space>{row_major(a.data(), r, in), row_major(b.data(), out, r),
                                               row_major(da.data(), r, in), row_major(db.data(), out, r)};
  };
  lora<float, cpu> adapter(be, views(), rank_stable_scaling{.alpha = 8});  // what is in a and b counts as a start
  initialise(be, adapter, kaiming_init{.seed = 1});                        // or a new one, written to a and b

  std::vector<float> moved(a);  // the framework moves A
  a.swap(moved);
  adapter.adopt(be, views());
  return adapter.a()(0, 0) - a[0];
}
