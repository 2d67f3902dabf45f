// shows automatic_svd, svd_quality, block_krylov, subspace, gram, svd_result, view_list, SvdMethod
/// The k leading triplets of one matrix, by four methods; they are interchangeable.
inline double leading_value(cpu& be, matrix_view<float const, host_space> g, index_t k) {
  view_list const one(&g, 1);                                             // methods take batches of equal shapes
  svd_result<float, cpu> a = automatic_svd{}.top(be, one, k);             // chooses by shape and k
  auto b = automatic_svd{.quality = svd_quality::tight}.top(be, one, k);  // loses less of the energy
  auto c = block_krylov{.block = 8, .depth = 4}.top(be, one, k);          // 2*depth passes over g
  auto d = subspace{.width = 3 * k, .iterations = 2}.top(be, one, k);     // 2 + 2*iterations passes
  auto e = gram{}.top(be, one, k);                                        // exact, for a small side
  for (auto const* r : {&a, &b, &c, &d, &e})
    if (r->flags[0] != svd_usable) throw numeric_error(describe_flags(r->flags[0]));
  return e[0].s(0, 0);  // u is rows x k, s k x 1, v cols x k
}
