#pragma once
#include <loraga/backend/cpu_class.hpp>
#include <loraga/backend/kernels.hpp>

// The CPU backend, complete: its products, cut into tasks for its threads. They are out of the class, so that none of
// it is inline: a library may hold it (loraga::cpu_compiled).

namespace loraga {

template <class TA, class TB, class TC>
void cpu::product(double alpha, matrix_view<TA const, space> a, matrix_view<TB const, space> b, double beta,
                  matrix_view<TC, space> c) {
  using T = compute_t<TC>;
  require_product(a, b, c, "cpu::gemm");
  if (c.rows == 0 || c.cols == 0) return;
  if (c.row_stride != 1 && c.rows > 1)
    return product<TB, TA, TC>(alpha, b.transposed(), a.transposed(), beta, c.transposed());
  scratch<cpu> temporary(*this);
  auto const wide_a = widened<T, TA>(temporary, a);
  auto const wide_b = widened<T, TB>(temporary, b);
  auto const cut = product_tile_of(c.rows, c.cols, a.cols, runs_down(a), runs_down(b));
  bool const spread = c.rows * c.cols * a.cols >= worth_threads * 8;
  if (spread) reserve_packing<T>(cut, c.rows, c.cols);
  index_t const down = (c.rows + cut.rows - 1) / cut.rows, across = (c.cols + cut.cols - 1) / cut.cols;
  index_t const slices = std::max<index_t>(1, (a.cols + cut.depth - 1) / std::max<index_t>(cut.depth, 1));
  bool const direct = std::is_same_v<T, TC> && slices == 1;
  slab_view<T, space> parts;
  if constexpr (std::is_same_v<T, TC>)
    if (direct) parts = {c.data, 1, c.rows, c.cols, 1, c.col_stride, 0};
  if (!direct) parts = temporary.template slab<T>(slices, c.rows, c.cols);
  parallel(down * across * slices, spread, [&](index_t t, int worker) {
    index_t const i = t % down * cut.rows, j = t / down % across * cut.cols, k = t / (down * across) * cut.depth;
    index_t const rows = std::min(cut.rows, c.rows - i), cols = std::min(cut.cols, c.cols - j);
    index_t const depth = std::min(cut.depth, a.cols - k);
    eigen::multiply<T>(static_cast<T>(alpha), wide_a.row_range(i, rows).columns(k, depth),
                       wide_b.row_range(k, depth).columns(j, cols), direct ? static_cast<T>(beta) : T(0),
                       parts[t / (down * across)].row_range(i, rows).columns(j, cols),
                       packing_[static_cast<std::size_t>(worker)], eigen::wanted::all);
  });
  if (!direct)
    for_each(c.rows, c.cols,
             detail::add_parts<slab_view<T, space>, matrix_view<TC, space>>{parts, static_cast<T>(beta), c});
}

/// Which thread gets which tile is chance: all get the memory for any of them now, so that later steps find it there.
template <class T>
void cpu::reserve_packing(product_tile cut, index_t rows, index_t cols) {
  for (index_t const m : {std::min(cut.rows, rows), rows % cut.rows})
    for (index_t const n : {std::min(cut.cols, cols), cols % cut.cols})
      if (m > 0 && n > 0)
        for (auto& memory : packing_) eigen::reserve<T>(m, n, cut.depth, memory);
}

template <class T, class U>
matrix_view<T const, cpu::space> cpu::widened(scratch<cpu>& temporary, matrix_view<U const, space> v) {
  if constexpr (std::is_same_v<U, T>) {
    return v;
  } else {
    if (v.row_stride > v.col_stride && v.cols > 1) return widened<T, U>(temporary, v.transposed()).transposed();
    auto const out = temporary.template matrix<T>(v.rows, v.cols);
    for_each(v.rows, v.cols, detail::convert<matrix_view<U const, space>, matrix_view<T, space>>{v, out});
    return out;
  }
}

template <class T>
void cpu::gram(matrix_view<T const, space> y, matrix_view<double, space> s) {
  require_shape(s, y.cols, y.cols, "cpu::gram_batched", "s");
  index_t const l = y.cols, tasks = std::clamp<index_t>(y.rows / tile, 1, gram_tasks);
  scratch<cpu> temporary(*this);
  auto const parts = temporary.template slab<double>(tasks, l, l);
  auto const wide = temporary.template slab<double>(tasks, tile, l);
  bool const spread = y.rows * l * l >= worth_threads;
  if (spread) reserve_packing<double>({l, l, std::min(tile, y.rows)}, l, l);
  parallel(tasks, spread, [&](index_t t, int worker) {
    index_t const begin = y.rows * t / tasks, last = y.rows * (t + 1) / tasks;
    index_t first = begin;
    do {  // without rows, too: that writes zeros
      index_t const rows = std::min(tile, last - first);
      matrix_view<double const, space> piece;
      if constexpr (std::is_same_v<T, double>) {
        piece = y.row_range(first, rows);
      } else {
        auto const w = wide[t].row_range(0, rows);
        for (index_t j = 0; j < l; ++j) detail::widen(rows, &y(first, j), y.row_stride, &w(0, j));
        piece = w;
      }
      eigen::multiply<double>(1.0, piece.transposed(), piece, first == begin ? 0.0 : 1.0, parts[t],
                              packing_[static_cast<std::size_t>(worker)], eigen::wanted::lower);
      first += tile;
    } while (first < last);
  });
  for (index_t j = 0; j < l; ++j)
    for (index_t i = j; i < l; ++i) {
      double sum = parts[0](i, j);
      for (index_t t = 1; t < tasks; ++t) sum += parts[t](i, j);
      s(i, j) = s(j, i) = sum;
    }
}

}  // namespace loraga
