#pragma once
#include <algorithm>
#include <loraga/backend/product_tile.hpp>
#include <loraga/backend/register_tile.hpp>
#include <loraga/core/view.hpp>

// Operands of a product, copied into the order in which registers take them.

namespace loraga::eigen {

/// Rows that panels of `most` registers take for so many rows, padding included.
template <class T>
index_t padded_rows(index_t rows, int most) {
  index_t sum = 0;
  while (sum < rows) sum += panel_height<T>(rows - sum, most);
  return sum;
}

/// The left operand as panels: for each panel, term by term, its rows; what is missing below is 0.
template <class T>
class left_panels {
  using in = matrix_view<T const, host_space>;
  template <bool Half>
  static void copy_panel(in a, index_t height, T* to) {
    using v = packets<T, Half>;
    for (index_t k = 0; k < a.cols; ++k)
      for (index_t i = 0; i < height; i += v::lanes) v::store(to + k * height + i, v::load(&a(i, k)));
  }
  /// In squares of 32 bytes at most: g++ takes Eigen's transposition of wider ones for a mistake, and says so.
  template <bool Half>
  static void transpose_panel(in a, index_t height, T* to) {
    using v = packets<T, Half || packets<T>::lanes* static_cast<index_t>(sizeof(T)) == 64>;
    constexpr index_t lanes = v::lanes;
    index_t const whole = a.cols / lanes * lanes;
    for (index_t i = 0; i < height; i += lanes) {
      for (index_t k = 0; k < whole; k += lanes) v::transpose(&a(i, k), a.row_stride, to + k * height + i, height);
      for (index_t k = whole; k < a.cols; ++k)
        for (index_t q = i; q < i + lanes; ++q) to[k * height + q] = a(q, k);
    }
  }
  static void pack_panel(in a, index_t height, T* to) {
    bool const half = height < packets<T>::lanes;
    if (a.rows < height) {
      for (index_t k = 0; k < a.cols; ++k)
        for (index_t i = 0; i < height; ++i) to[k * height + i] = i < a.rows ? a(i, k) : T(0);
    } else if (runs_down(a)) {
      half ? copy_panel<true>(a, height, to) : copy_panel<false>(a, height, to);
    } else {
      half ? transpose_panel<true>(a, height, to) : transpose_panel<false>(a, height, to);
    }
  }

  /// Full panels of contiguous columns, along these as they lie in memory.
  template <int Most>
  static void copy_columns(in a, index_t panels, T* to) {
    constexpr index_t lanes = packets<T>::lanes, height = Most * lanes;
    for (index_t k = 0; k < a.cols; ++k, to += height) {
      T const* from = &a(0, k);
      for (index_t i = 0; i < panels; ++i, from += height)
#pragma GCC unroll 4
        for (int p = 0; p < Most; ++p)
          packets<T>::store(to + i * height * a.cols + p * lanes, packets<T>::load(from + p * lanes));
    }
  }

 public:
  static void pack(in a, int most, T* to) {
    index_t first = 0;
    if (runs_down(a)) {
      index_t const height = most * packets<T>::lanes, panels = a.rows / height;
      most == 3 ? copy_columns<3>(a, panels, to) : copy_columns<2>(a, panels, to);
      first = panels * height;
      to += first * a.cols;
    }
    while (first < a.rows) {
      index_t const rows = panel_height<T>(a.rows - first, most);
      pack_panel(a.row_range(first, std::min(rows, a.rows - first)), rows, to);
      first += rows;
      to += rows * a.cols;
    }
  }
};

/// Columns of the next group where so many are left: `most`, or the largest power of two below.
inline int group_width(index_t columns, int most) {
  if (columns >= most) return most;
  return columns >= 4 ? 4 : columns >= 2 ? 2 : 1;
}

/// The right operand in groups of columns: for each group, term by term, its columns.
template <class T>
void pack_right(matrix_view<T const, host_space> b, int most, T* to) {
  for (index_t j = 0; j < b.cols;) {
    int const width = group_width(b.cols - j, most);
    T const* const from = b.data + j * b.col_stride;
    auto const copy = [&]<int N>() {
      for (index_t k = 0; k < b.rows; ++k, to += N)
#pragma GCC unroll 8
        for (int q = 0; q < N; ++q) to[q] = from[k * b.row_stride + q * b.col_stride];
    };
    if (width == 8) copy.template operator()<8>();
    else if (width == 4) copy.template operator()<4>();
    else if (width == 2) copy.template operator()<2>();
    else copy.template operator()<1>();
    j += width;
  }
}

}  // namespace loraga::eigen
