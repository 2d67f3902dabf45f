#pragma once
#include <loraga/backend/packets.hpp>

namespace loraga::eigen {

/// How a product's result is cut into what fits the registers: `packets` of rows times `columns`.
struct tile_shape {
  int packets, columns;
};

/// Rows of the next panel where `rows` are left: as many registers as a panel has, a few, or half of one.
/// returns  a multiple of half a register, as much as `rows` or a little more
template <class T>
index_t panel_height(index_t rows, int most) {
  constexpr index_t lanes = packets<T>::lanes, half = packets<T, true>::lanes;
  if (rows >= most * lanes) return most * lanes;
  if (rows <= half) return half;
  index_t const whole = rows / lanes, rest = rows % lanes;
  return whole > 0 && rest <= half ? whole * lanes : (whole + 1) * lanes;
}

/// One tile's work: out = alpha*left*right + beta*out for `height` x `columns` numbers in registers.
template <class T>
struct tile_work {
  index_t depth;
  T const* left;         ///< a panel: `height` numbers for each term
  index_t left_stride;   ///< between terms: the height, unless the panel is read in place
  T const* right;        ///< packed: `columns` numbers for each term; in place: terms contiguous
  index_t right_stride;  ///< between columns, in place
  T alpha, beta;         ///< beta = 0: out is not read
  T* out;
  index_t out_stride;  ///< between columns
  index_t rows;        ///< of the panel that exist; the rest is padding
  T const* ahead;      ///< the same rows of the next panel before it is packed, to be fetched meanwhile; or null
  index_t ahead_stride;
};

/// Writes the rows of a tile that exist.
template <class T>
[[gnu::noinline]] void write_rows(T const* tile, index_t height, int columns, tile_work<T> const& w) {
  for (int j = 0; j < columns; ++j, tile += height) {
    T* const to = w.out + j * w.out_stride;
    for (index_t i = 0; i < w.rows; ++i)
      to[i] = w.beta == T(0) ? w.alpha * tile[i] : w.alpha * tile[i] + w.beta * to[i];
  }
}

template <class T, bool Half, int P, int N, bool Packed>
class register_tile {
  using v = packets<T, Half>;
  using packet = typename v::type;
  static constexpr index_t lanes = v::lanes, height = P * lanes;
  static constexpr index_t line = 64 / static_cast<index_t>(sizeof(T));

  static void write(T* to, packet x, packet alpha, T beta) {
    packet const scaled = v::multiply(alpha, x);
    v::store(to, beta == T(0) ? scaled : v::madd(v::all(beta), v::load(to), scaled));
  }

 public:
  static void run(tile_work<T> const& w) {
    packet sum[N][P];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) sum[j][p] = v::all(T(0));
    T const *left = w.left, *right = w.right, *ahead = w.ahead;
    index_t const left_stride = w.left_stride, right_stride = w.right_stride, ahead_stride = w.ahead_stride;
    for (index_t k = 0; k < w.depth; ++k) {
      packet x[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) x[p] = v::load(left + p * lanes);
      if (Packed && ahead) {
#ifdef __GNUC__
#pragma GCC unroll 4
        for (index_t i = 0; i < height; i += line) __builtin_prefetch(ahead + i, 0, 2);
#endif
        ahead += ahead_stride;
      }
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j) {
        packet const y = v::all(Packed ? right[j] : right[j * right_stride]);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) sum[j][p] = v::madd(x[p], y, sum[j][p]);
      }
      left += left_stride;
      if constexpr (Packed) right += N;
      else ++right;
    }
    packet const alpha = v::all(w.alpha);
    if (w.rows == height) {
#pragma GCC unroll 8
      for (int j = 0; j < N; ++j)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) write(w.out + j * w.out_stride + p * lanes, sum[j][p], alpha, w.beta);
      return;
    }
    T whole[N * height];
#pragma GCC unroll 8
    for (int j = 0; j < N; ++j)
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) v::store(whole + j * height + p * lanes, sum[j][p]);
    write_rows(whole, height, N, w);
  }
};

/// The tile of a panel of that height and so many columns (8, 6, 4, 2 or 1).
template <bool Packed, class T>
void run_tile(index_t height, index_t columns, tile_work<T> const& w) {
  constexpr index_t lanes = packets<T>::lanes;
  auto const of_width = [&]<int N>() {
    if (height == 3 * lanes) return register_tile<T, false, 3, N, Packed>::run(w);
    if (height == 2 * lanes) return register_tile<T, false, 2, N, Packed>::run(w);
    if (height == lanes) return register_tile<T, false, 1, N, Packed>::run(w);
    register_tile<T, true, 1, N, Packed>::run(w);
  };
  if constexpr (many_registers)
    if (columns == 8) return of_width.template operator()<8>();
  if constexpr (!many_registers && !Packed)
    if (columns == 6) return of_width.template operator()<6>();
  if (columns == 4) return of_width.template operator()<4>();
  if (columns == 2) return of_width.template operator()<2>();
  of_width.template operator()<1>();
}

}  // namespace loraga::eigen
