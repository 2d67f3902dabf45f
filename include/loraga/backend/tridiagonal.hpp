#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <loraga/backend/multiply.hpp>
#include <loraga/backend/small_factorisations.hpp>

// A symmetric matrix to tridiagonal form by reflections, in panels, and the way back for vectors. Half of the
// reduction's operations are products with one vector, which read the matrix once each: they decide its time.

namespace loraga::eigen {

/// Loops over symmetric matrices and tall blocks, in Eigen's packets. Columns start at multiples of `lanes`.
template <class T>
struct panel_loops : vector_loops<T> {
  using loops = vector_loops<T>;
  using loops::all, loops::lanes, loops::load, loops::madd, loops::store;
  using typename loops::packet;
  static constexpr index_t group = lanes < 4 ? 4 : lanes;  // columns of the matrix taken together

  static index_t padded(index_t n) { return (n + group - 1) / group * group; }
  static T sum(packet x) {
    T lane[lanes];
    store(lane, x);
    for (index_t half = lanes / 2; half > 0; half /= 2)
      for (index_t i = 0; i < half; ++i) lane[i] += lane[i + half];
    return lane[0];
  }

  /// A number between the largest |a_ij| of n x n and n^2 of them; not finite where one of them is not.
  static T size_of(index_t n, T const* a, index_t ld) {
    constexpr T down = T(1) / (index_t{1} << 40), up = index_t{1} << 40;  // the sum must not overflow
    packet total = all(T(0));
    T rest = 0;
    for (index_t j = 0; j < n; ++j) {
      index_t i = 0;
      for (; i + lanes <= n; i += lanes) total = madd(Eigen::internal::pabs(load(a + j * ld + i)), all(down), total);
      for (; i < n; ++i) rest += std::abs(a[j * ld + i]) * down;
    }
    rest += sum(total);
    return is_finite(rest) ? std::min(rest, std::numeric_limits<T>::max() * down) * up : rest;
  }

  /// out_c = x_cT*v for `count` columns x_c, `ld` apart; n is a multiple of lanes.
  static void dots(index_t n, index_t count, T const* x, index_t ld, T const* v, T* out) {
    auto const columns = [&]<int N>(index_t c) {
      packet part[N];
      for (int i = 0; i < N; ++i) part[i] = all(T(0));
      for (index_t r = 0; r < n; r += lanes)
        for (int i = 0; i < N; ++i) part[i] = madd(load(x + (c + i) * ld + r), load(v + r), part[i]);
      for (int i = 0; i < N; ++i) out[c + i] = sum(part[i]);
    };
    index_t c = 0;
    for (; c + 4 <= count; c += 4) columns.template operator()<4>(c);
    for (; c < count; ++c) columns.template operator()<1>(c);
  }

  /// Makes A's blocks of `group` on the diagonal, from `first` on, symmetric: what is above it becomes what is below.
  static void mirror(index_t first, index_t n, T* a, index_t ld) {
    for (index_t c = first; c < n; ++c)
      for (index_t r = c / group * group; r < c; ++r) a[c * ld + r] = a[r * ld + c];
  }

  /// y = A*x for rows and columns from `first` on, a multiple of `group`. Of A (n x n) only blocks on the diagonal and
  /// what is below are read, once. y holds zeros before; x and y have padded(n) elements.
  static void symmetric_times(index_t first, index_t n, T const* a, index_t ld, T const* x, T* y) {
    constexpr int G = group;
    index_t const whole = n / lanes * lanes;
    index_t j = first;
    for (; j + G <= n; j += G) {
      T const* const column = a + j * ld;
      packet factor[G], part[G];
      for (int c = 0; c < G; ++c) {
        factor[c] = all(x[j + c]);
        part[c] = all(T(0));
      }
      index_t r = j;
      for (; r < j + G; r += lanes) {
        packet here = load(y + r);
        for (int c = 0; c < G; ++c) here = madd(load(column + c * ld + r), factor[c], here);
        store(y + r, here);
      }
      for (; r < whole; r += lanes) {
        packet here = load(y + r);
        packet const v = load(x + r);
        for (int c = 0; c < G; ++c) {
          packet const element = load(column + c * ld + r);
          here = madd(element, factor[c], here);
          part[c] = madd(element, v, part[c]);
        }
        store(y + r, here);
      }
      for (int c = 0; c < G; ++c) {
        T rest = 0;
        for (index_t i = whole; i < n; ++i) {
          y[i] += column[c * ld + i] * x[j + c];
          rest += column[c * ld + i] * x[i];
        }
        y[j + c] += sum(part[c]) + rest;
      }
    }
    for (; j < n; ++j)  // the last columns lie in one block of the diagonal
      for (index_t i = n / G * G; i < n; ++i) y[i] += a[j * ld + i] * x[j];
  }
};

/// S = Q*T*QT: T's diagonal and what is beside it, and Q as a product of reflections I - factor_j*v_j*v_jT. v_j is zero
/// up to row j, one in row j + 1; the rest of it lies below the diagonal of what was S.
template <class T>
class tridiagonal_form {
  using loops = panel_loops<T>;
  static constexpr index_t panel = 32, steps_back = 64;
  matrix_view<T, host_space> s_;
  T *diagonal_, *beside_, *factors_;

  /// The reflection that clears v below row `c` + 1; v becomes its vector. Returns what it leaves there. Numbers not
  /// above `negligible` are cleared without.
  static T reflection(index_t c, index_t n, T* v, T negligible, T& factor) {
    T tail = 0;
    index_t const first = loops::padded(c + 2);
    for (index_t i = c + 2; i < std::min(first, n); ++i) tail += v[i] * v[i];
    T rest = 0;
    if (first < n) loops::dots(loops::padded(n) - first, 1, v + first, 0, v + first, &rest);
    tail += rest;
    T const lead = v[c + 1];
    std::fill(v, v + c + 2, T(0));
    if (!(tail > negligible * negligible)) {
      std::fill(v, v + n, T(0));
      factor = 0;
      return lead;
    }
    T const left = std::copysign(std::sqrt(lead * lead + tail), -lead);
    factor = (left - lead) / left;
    v[c + 1] = 1;
    T const scale = 1 / (lead - left);
    for (index_t i = c + 2; i < n; ++i) v[i] *= scale;
    return left;
  }

 public:
  /// Bytes that `reduce` works in.
  static std::size_t bytes(index_t n) {
    return static_cast<std::size_t>(loops::padded(n) * (3 * panel + 1) + 4 * panel) * sizeof(T);
  }

  /// Reduces s, whose column-major elements are overwritten. diagonal, beside and factors have room for n numbers each;
  /// entries of a column not above `negligible` are taken for zero. `work` has `bytes(n)`, aligned.
  /// cost    4/3*n^3 operations, half of them in products with a vector
  /// source  Dongarra, Hammarling, Sorensen, LAPACK working note 2 (1987); LAPACK's dsytrd and dlatrd
  tridiagonal_form(matrix_view<T, host_space> s, T* diagonal, T* beside, T* factors, T negligible, T* work,
                   packing& memory)
      : s_(s), diagonal_(diagonal), beside_(beside), factors_(factors) {
    index_t const n = s.rows, height = loops::padded(n);
    for (index_t first = 0; first < n; first += panel) {
      index_t const width = std::min(panel, n - first);
      reduce_panel(first, width, negligible, work);
      index_t const rest = first + width;
      // S -= V*WT + W*VT, below and on the diagonal
      T* const v = work;
      std::copy(v, v + panel * height, v + 2 * panel * height);
      matrix_view<T const, host_space> const left(v, n, 2 * panel, 1, height);
      auto const right = matrix_view<T const, host_space>(v + panel * height, n, 2 * panel, 1, height).transposed();
      if (rest < n)
        multiply<T>(-1, left.row_range(rest, n - rest), right.columns(rest, n - rest), 1,
                    s.columns(rest, n - rest).row_range(rest, n - rest), memory, wanted::lower);
      loops::mirror(rest, n, s.data, s.col_stride);
    }
  }

  /// z = Q*z, in blocks of reflections, I - V*U*VT with U upper triangular, so that the work is products.
  /// cost    2*n^2*z.cols operations
  /// source  Schreiber, Van Loan, "A storage-efficient WY representation", SISSC 10 (1989); Golub, Van Loan, 5.1.7
  void apply(matrix_view<T, host_space> z, packing& memory) const;

 private:
  void reduce_panel(index_t first, index_t width, T negligible, T* work) {
    index_t const n = s_.rows, height = loops::padded(n);
    T* const v = work;
    T* const w = v + panel * height;
    T* const overlaps = w + 2 * panel * height;
    std::fill(v, w + panel * height, T(0));
    for (index_t j = 0; j < width; ++j) {
      index_t const c = first + j, from = c / loops::group * loops::group, rows = height - from;
      T* const column = v + j * height;
      T* const image = w + j * height;
      std::copy(s_.data + c * s_.col_stride + c, s_.data + c * s_.col_stride + n, column + c);
      // the column after the reflections of this panel: -= V*W_c + W*V_c
      T factors[2 * panel];
      for (index_t p = 0; p < j; ++p) {
        factors[p] = -w[p * height + c];
        factors[panel + p] = -v[p * height + c];
      }
      loops::add(rows, j, factors, v + from, height, column + from);
      loops::add(rows, j, factors + panel, w + from, height, column + from);
      diagonal_[c] = column[c];
      if (c + 1 == n) return;
      T& factor = factors_[c];
      beside_[c] = reflection(c, n, column, negligible, factor);
      std::copy(column + c + 2, column + n, s_.data + c * s_.col_stride + c + 2);
      if (factor == 0) continue;
      // W_j = factor*(S*v - V*(WT*v) - W*(VT*v)), less its part along v
      loops::symmetric_times(from, n, s_.data, s_.col_stride, column, image);
      loops::dots(rows, j, w + from, height, column + from, overlaps);
      loops::dots(rows, j, v + from, height, column + from, overlaps + panel);
      for (index_t p = 0; p < j; ++p) overlaps[p] = -overlaps[p], overlaps[panel + p] = -overlaps[panel + p];
      loops::add(rows, j, overlaps, v + from, height, image + from);
      loops::add(rows, j, overlaps + panel, w + from, height, image + from);
      T along;
      loops::dots(rows, 1, image + from, height, column + from, &along);
      T const part = -factor * factor * along / 2;
      for (index_t i = from; i < height; ++i) image[i] = i > c && i < n ? factor * image[i] + part * column[i] : T(0);
    }
  }
};

template <class T>
void tridiagonal_form<T>::apply(matrix_view<T, host_space> z, packing& memory) const {
  index_t const n = s_.rows, count = n - 1, block = std::min(steps_back, count);
  if (count < 1 || z.cols == 0) return;
  packing room;
  auto const elements = static_cast<std::size_t>(block * (n + 2 * block + 2 * z.cols));
  T* const v = reinterpret_cast<T*>(room.at_least(elements * sizeof(T)));
  T* const turn = v + n * block;
  T* const overlaps = turn + block * block;
  T* const inner = overlaps + block * block;
  T* const scaled = inner + block * z.cols;
  for (index_t first = (count - 1) / block * block; first >= 0; first -= block) {
    index_t const width = std::min(block, count - first), rows = n - first - 1;
    std::fill(v, inner, T(0));
    for (index_t j = 0; j < width; ++j) {
      T const* const from = s_.data + (first + j) * s_.col_stride + first + 1;
      v[j * rows + j] = 1;
      std::copy(from + j + 1, from + rows, v + j * rows + j + 1);
    }
    auto const vectors = col_major(v, rows, width), upper = col_major(turn, width, width),
               products = col_major(overlaps, width, width);
    multiply<T>(1, vectors.transposed(), vectors, 0, products, memory);
    for (index_t j = 0; j < width; ++j) {
      T const factor = factors_[first + j];
      for (index_t q = 0; q < j; ++q)
        for (index_t i = 0; i <= q; ++i) upper(i, j) -= factor * upper(i, q) * products(q, j);
      upper(j, j) = factor;
    }
    auto const below = z.row_range(first + 1, rows), in = col_major(inner, width, z.cols),
               out = col_major(scaled, width, z.cols);
    multiply<T>(1, vectors.transposed(), below, 0, in, memory);
    multiply<T>(1, upper, in, 0, out, memory);
    multiply<T>(-1, vectors, out, 1, below, memory);
  }
}

}  // namespace loraga::eigen
