#pragma once
#include <algorithm>
#include <loraga/backend/packing.hpp>
#include <loraga/backend/panels.hpp>
#include <loraga/backend/product_tile.hpp>

namespace loraga::eigen {

/// c = alpha*a*b + beta*c on one thread, in tiles that stay in registers. Rows go along registers; the right operand's
/// numbers are spread over one each. The left operand is copied into panels. The right one is copied as well where that
/// pays, or read where it lies if its columns are contiguous, so that a large one passes the caches once. Sums run over
/// blocks of terms whose length follows from shape and layout alone.
template <class T>
class host_product {
  using in = matrix_view<T const, host_space>;
  using out = matrix_view<T, host_space>;

  struct plan {
    product_order order;
    index_t depth;   // terms in a block
    index_t rows;    // of the left operand that are copied at a time
    bool used_once;  // the left operand is, by a single group of columns, and not copied where panels are whole
    tile_shape tile;
  };
  static plan plan_for(index_t rows, index_t columns, index_t depth, bool a_down, bool b_down) {
    auto const order = product_order::of(rows, columns, a_down, b_down);
    if (order.swapped) std::swap(rows, columns);
    constexpr index_t lanes = packets<T>::lanes;
    if (order.in_place) {
      constexpr index_t cached = (index_t{1} << 18) / static_cast<index_t>(sizeof(T));  // numbers of panels
      bool const thirds = many_registers || (rows + lanes - 1) / lanes % 3 == 0;
      tile_shape const tile = many_registers ? tile_shape{3, 8} : thirds ? tile_shape{3, 4} : tile_shape{2, 6};
      return {order, std::min(std::max<index_t>(cached / std::max<index_t>(rows, 16), 256), depth), rows, false, tile};
    }
    index_t const block = columns < 32 ? 32 : columns <= product_order::few ? 64 : 256;
    tile_shape const tile{3, many_registers ? 8 : 4};
    return {order, std::min(block, depth), std::min(rows, 30 * lanes), order.streams_left && columns <= tile.columns,
            tile};
  }
  static index_t rounded(index_t elements) {
    constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));
    return (elements + line - 1) / line * line;
  }
  static index_t left_size(plan const& p) { return rounded(padded_rows<T>(p.rows, p.tile.packets) * p.depth); }
  static index_t right_size(plan const& p, index_t columns) {
    return p.order.in_place ? 0 : rounded(p.depth * columns);
  }

  /// Walks over panels of rows, or groups of columns: each(first, size).
  template <class F>
  static void panels(index_t rows, plan const& p, F const& each) {
    for (index_t i = 0, height = 0; i < rows; i += height) each(i, height = panel_height<T>(rows - i, p.tile.packets));
  }
  template <class F>
  static void groups(index_t columns, plan const& p, F const& each) {
    for (index_t j = 0, width = 0; j < columns; j += width) each(j, width = group_width(columns - j, p.tile.columns));
  }

  /// c = alpha*a*b + beta*c for one block of terms.
  struct block {
    plan p;
    T alpha;
    in a, b;
    T beta;
    out c;
    wanted part;
    bool fetch;  // the same rows of the next block of terms meanwhile
    T *left, *right;

    /// The tile of rows from i and columns from j on; its panel is at `from`, terms `stride` apart.
    void tile(T const* from, index_t stride, T const* ahead, index_t i, index_t height, index_t j,
              index_t width) const {
      if (part == wanted::lower && i + height <= j) return;
      tile_work<T> const w{a.cols,       from,
                           stride,       p.order.in_place ? b.data + j * b.col_stride : right + j * a.cols,
                           b.col_stride, alpha,
                           beta,         c.data + i + j * c.col_stride,
                           c.col_stride, std::min(height, a.rows - i),
                           ahead,        a.col_stride};
      p.order.in_place ? run_tile<false>(height, width, w) : run_tile<true>(height, width, w);
    }
    void run_in_place() const {
      left_panels<T>::pack(a, p.tile.packets, left);
      groups(b.cols, p, [&](index_t j, index_t width) {
        panels(a.rows, p,
               [&](index_t i, index_t height) { tile(left + i * a.cols, height, nullptr, i, height, j, width); });
      });
    }
    void run_packed() const {
      pack_right<T>(b, p.tile.columns, right);
      index_t const whole = p.tile.packets * packets<T>::lanes;
      for (index_t first = 0; first < a.rows; first += p.rows) {
        index_t const rows = std::min(p.rows, a.rows - first);
        index_t const direct = p.used_once ? rows / whole * whole : 0;
        if (direct < rows)
          left_panels<T>::pack(a.row_range(first + direct, rows - direct), p.tile.packets, left + direct * a.cols);
        panels(rows, p, [&](index_t i, index_t height) {
          bool const copied = i >= direct;
          groups(b.cols, p, [&](index_t j, index_t width) {
            tile(copied ? left + i * a.cols : &a(first + i, 0), copied ? height : a.col_stride,
                 fetch && j == 0 ? &a(first + i, 0) + a.cols * a.col_stride : nullptr, first + i, height, j, width);
          });
        });
      }
    }
  };
  static void blocks(plan const& p, T alpha, in a, in b, T beta, out c, wanted part, T* memory) {
    for (index_t k = 0; k < a.cols; k += p.depth) {
      index_t const terms = std::min(p.depth, a.cols - k);
      block const one{p,
                      alpha,
                      a.columns(k, terms),
                      b.row_range(k, terms),
                      k == 0 ? beta : T(1),
                      c,
                      part,
                      p.order.streams_left && k + 2 * p.depth <= a.cols,
                      memory,
                      memory + left_size(p)};
      p.order.in_place ? one.run_in_place() : one.run_packed();
    }
  }

 public:
  /// Bytes of memory it takes for a rows x columns result, whatever the layouts.
  static std::size_t bytes(index_t rows, index_t columns, index_t depth) {
    index_t most = 0;
    for (int layout = 0; layout < 4; ++layout) {
      plan const p = plan_for(rows, columns, depth, layout & 1, layout & 2);
      index_t const m = p.order.swapped ? columns : rows, n = p.order.swapped ? rows : columns;
      most = std::max(most, left_size(p) + right_size(p, n) + (p.order.swapped ? rounded(m * n) : 0));
    }
    return static_cast<std::size_t>(most) * sizeof(T);
  }
  static void run(T alpha, in a, in b, T beta, out c, wanted part, packing& memory) {
    plan const p = plan_for(c.rows, c.cols, a.cols, runs_down(a), runs_down(b));
    T* const space = reinterpret_cast<T*>(memory.at_least(bytes(c.rows, c.cols, a.cols)));
    if (!p.order.swapped) return blocks(p, alpha, a, b, beta, c, part, space);
    index_t const used = left_size(p) + right_size(p, c.rows);
    out const sum(space + used, c.cols, c.rows, 1, c.cols);
    blocks(p, T(1), b.transposed(), a.transposed(), T(0), sum, wanted::all, space);
    for (index_t j = 0; j < c.cols; ++j)
      for (index_t i = 0; i < c.rows; ++i)
        c(i, j) = beta == T(0) ? alpha * sum(j, i) : alpha * sum(j, i) + beta * c(i, j);
  }
};

/// c = alpha*a*b + beta*c; beta = 0 does not read c. a and b have a unit stride either way, unless they are a single
/// row or column; so has c.
template <class T>
void multiply(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b, T beta,
              matrix_view<T, host_space> c, packing& memory, wanted part) {
  if (c.rows == 0 || c.cols == 0) return;
  if (c.row_stride != 1 && c.rows > 1)
    return multiply<T>(alpha, b.transposed(), a.transposed(), beta, c.transposed(), memory, wanted::all);
  if (a.cols > 0) return host_product<T>::run(alpha, a, b, beta, c, part, memory);
  for (index_t j = 0; j < c.cols; ++j)
    for (index_t i = 0; i < c.rows; ++i) c(i, j) = beta == T(0) ? T(0) : beta * c(i, j);
}

/// The same, all of it.
template <class T>
void multiply(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b, T beta,
              matrix_view<T, host_space> c, packing& memory) {
  multiply<T>(alpha, a, b, beta, c, memory, wanted::all);
}

/// Memory that `multiply` may take for a rows x cols result, whatever the layouts.
template <class T>
void reserve(index_t rows, index_t cols, index_t depth, packing& memory) {
  memory.at_least(host_product<T>::bytes(rows, cols, depth));
}

}  // namespace loraga::eigen
