#pragma once
#include <Eigen/Core>
#include <algorithm>
#include <loraga/backend/packing.hpp>
#include <loraga/core/view.hpp>

namespace loraga::eigen {

/// c += alpha*a*b for a c of few columns: SVD iterations with tall blocks, adapters with activations. A general product
/// first copies a into packed blocks, which for few columns costs more than multiplying. Here a is read once, where it
/// lies, and b is packed. Sums run over `depth_block` terms before they are added up, in an order that depends on
/// layout and shape alone. a has a unit stride either way; b and c may have any strides. It is written in Eigen's
/// packets, for any vector width.
template <class T>
class thin_product {
  using packet = typename Eigen::internal::packet_traits<T>::type;
  static constexpr index_t lanes = Eigen::internal::unpacket_traits<packet>::size;
  static constexpr int registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS;
  static constexpr index_t depth_block = 512;
  static constexpr index_t group = 8;                     // columns of a taken together, where columns are contiguous
  static constexpr int pieces = registers >= 32 ? 2 : 1;  // packets of each of them at once

  static packet load(T const* p) { return Eigen::internal::ploadu<packet>(p); }
  static void store(T* p, packet x) { Eigen::internal::pstoreu(p, x); }
  static packet all(T x) { return Eigen::internal::pset1<packet>(x); }
  static packet madd(packet x, packet y, packet z) { return Eigen::internal::pmadd(x, y, z); }
  static bool runs_along_rows(matrix_view<T const, host_space> a) { return a.col_stride == 1 || a.cols == 1; }
  static index_t padded(index_t n) { return (n + lanes - 1) / lanes * lanes; }

  /// Rows of a are contiguous: R of them times V packets of b's columns. b and sum are row-major, `width` wide.
  template <int R, int V>
  static void dots(T const* a, index_t ld, index_t depth, T const* b, index_t width, T* sum) {
    packet x[R][V];
    for (int i = 0; i < R; ++i)
      for (int v = 0; v < V; ++v) x[i][v] = all(T(0));
    for (index_t k = 0; k < depth; ++k) {
      packet y[V];
      for (int v = 0; v < V; ++v) y[v] = load(b + k * width + v * lanes);
      for (int i = 0; i < R; ++i) {
        packet const here = all(a[i * ld + k]);
        for (int v = 0; v < V; ++v) x[i][v] = madd(here, y[v], x[i][v]);
      }
    }
    for (int i = 0; i < R; ++i)
      for (int v = 0; v < V; ++v) {
        T* const p = sum + i * width + v * lanes;
        store(p, Eigen::internal::padd(load(p), x[i][v]));
      }
  }
  template <int V>
  static void rows(T const* a, index_t ld, index_t count, index_t depth, T const* b, index_t width, T* sum) {
    constexpr int R = (registers - 4) / V < 12 ? (registers - 4) / V : 12;
    auto const each = [&]<int N>(index_t i) {
      for (index_t k = 0; k < depth; k += depth_block)
        dots<N, V>(a + i * ld + k, ld, std::min(depth_block, depth - k), b + k * width, width, sum + i * width);
    };
    index_t i = 0;
    for (; i + R <= count; i += R) each.template operator()<R>(i);
    for (; i < count; ++i) each.template operator()<1>(i);
  }

  /// Columns of a are contiguous: sum (column-major, ld `height`) += a*b, a group of columns at a time, so that sum is
  /// read and written once per group. b is row-major, `width` wide.
  static void groups(T const* a, index_t ld, index_t rows, index_t depth, T const* b, index_t width, index_t columns,
                     T* sum, index_t height) {
    constexpr index_t step = pieces * lanes;
    index_t k = 0;
    for (; k + group <= depth; k += group) {
      T const* const b0 = b + k * width;
      T const* const a0 = a + k * ld;
      index_t i = 0;
      for (; i + step <= rows; i += step) {
        packet x[group][pieces];
        for (index_t g = 0; g < group; ++g)
          for (int p = 0; p < pieces; ++p) x[g][p] = load(a0 + g * ld + i + p * lanes);
        for (index_t j = 0; j < columns; ++j) {
          T* const to = sum + i + j * height;
          packet y[pieces];
          for (int p = 0; p < pieces; ++p) y[p] = load(to + p * lanes);
          for (index_t g = 0; g < group; ++g) {
            packet const factor = all(b0[g * width + j]);
            for (int p = 0; p < pieces; ++p) y[p] = madd(x[g][p], factor, y[p]);
          }
          for (int p = 0; p < pieces; ++p) store(to + p * lanes, y[p]);
        }
      }
      for (index_t j = 0; j < columns; ++j)
        for (index_t r = i; r < rows; ++r)
          for (index_t g = 0; g < group; ++g) sum[r + j * height] += a0[g * ld + r] * b0[g * width + j];
    }
    for (; k < depth; ++k)
      for (index_t j = 0; j < columns; ++j)
        for (index_t r = 0; r < rows; ++r) sum[r + j * height] += a[k * ld + r] * b[k * width + j];
  }

 public:
  static constexpr index_t limit = 64;  ///< most columns of c
  /// Whether this is the better way (measured) for rows x columns results of that depth.
  static bool pays(index_t rows, index_t columns, matrix_view<T const, host_space> a) {
    if (rows < 64 || rows < columns) return false;
    return runs_along_rows(a) ? columns <= limit && a.cols >= 256 : columns <= 32 && a.cols >= 64;
  }
  static std::size_t bytes(index_t rows, index_t columns, index_t depth) {
    return static_cast<std::size_t>((depth + padded(rows)) * padded(columns)) * sizeof(T);
  }

  static void add(T alpha, matrix_view<T const, host_space> a, matrix_view<T const, host_space> b,
                  matrix_view<T, host_space> c, packing& memory) {
    index_t const width = padded(b.cols), depth = a.cols;
    auto* const packed = reinterpret_cast<T*>(memory.at_least(bytes(c.rows, b.cols, depth)));
    T* const sum = packed + depth * width;
    for (index_t k = 0; k < depth; ++k)
      for (index_t j = 0; j < width; ++j) packed[k * width + j] = j < b.cols ? b(k, j) : T(0);
    auto const flush = [&](index_t row_stride, index_t col_stride) {
      for (index_t j = 0; j < c.cols; ++j)
        for (index_t i = 0; i < c.rows; ++i) c(i, j) += alpha * sum[i * row_stride + j * col_stride];
    };
    if (runs_along_rows(a)) {
      std::fill(sum, sum + c.rows * width, T(0));
      index_t done = 0;
      for (; done + 2 * lanes <= width; done += 2 * lanes)
        rows<2>(a.data, a.row_stride, c.rows, depth, packed + done, width, sum + done);
      if (done < width) rows<1>(a.data, a.row_stride, c.rows, depth, packed + done, width, sum + done);
      flush(width, 1);
    } else {
      index_t const height = padded(c.rows);
      for (index_t k = 0; k < depth; k += depth_block) {
        std::fill(sum, sum + height * c.cols, T(0));
        groups(a.data + k * a.col_stride, a.col_stride, c.rows, std::min(depth_block, depth - k), packed + k * width,
               width, c.cols, sum, height);
        flush(1, height);
      }
    }
  }
};

}  // namespace loraga::eigen
