// shows eigen_svd
/// Exact for small singular values too. Needs #include <loraga/svd/eigen.hpp>, which takes seconds to compile.
inline double smallest_value(cpu& be, matrix_view<double const, host_space> g) {
  index_t const k = std::min(g.rows, g.cols);
  auto const all = eigen_svd{}.top(be, view_list(&g, 1), k);
  return all[0].s(k - 1, 0);
}
