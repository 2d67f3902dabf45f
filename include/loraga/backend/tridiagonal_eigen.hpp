#pragma once
#include <cmath>
#include <limits>
#include <loraga/backend/small_factorisations.hpp>
#include <loraga/core/philox.hpp>
#include <utility>

// Eigenvalues and vectors of symmetric tridiagonal matrices. What is not above the rounding of the largest entry counts
// as zero everywhere: small values are exact to eps times the largest, which is all that the matrix before had.

namespace loraga::eigen {

/// All values of a tridiagonal matrix by root-free QL sweeps: `d` its diagonal, which the values replace, in no order;
/// `squares` those of what is beside it, destroyed. A square not above `negligible` counts as zero. False if a value
/// did not converge. One division's latency a step decides the time.
/// cost    about 0.85*n^2 steps
/// source  Pal, Walker, Kahan in Parlett, The Symmetric Eigenvalue Problem, 8.15; LAPACK's dsterf
template <class T>
bool tridiagonal_values(index_t n, T* d, T* squares, T negligible) {
  T const tiny = std::numeric_limits<T>::min();
  index_t l = 0, sweeps = 30 * n;
  while (l < n) {
    index_t m = l;
    while (m + 1 < n && squares[m] > negligible) ++m;
    if (m == l) {
      ++l;
      continue;
    }
    if (sweeps-- == 0) return false;
    T const beside = std::sqrt(squares[l]), half = (d[l + 1] - d[l]) / (2 * beside);
    if (m == l + 1) {  // both values of two rows at once
      T const part = beside / (half + std::copysign(std::sqrt(half * half + 1), half));
      d[l] -= part;
      d[l + 1] += part;
      l += 2;
      continue;
    }
    T const shift = d[l] - beside / (half + std::copysign(std::sqrt(half * half + 1), half));
    T c = 1, s = 0, gamma = d[m] - shift, p = gamma * gamma;
    for (index_t i = m - 1; i >= l; --i) {
      T const b = squares[i], r = p + b, before = c, last = gamma, alpha = d[i];
      if (i + 1 < m) squares[i + 1] = s * r;
      T const growth = r / p;  // beside the other divisions, not after them
      c = p / r;
      s = b / r;
      gamma = c * (alpha - shift) - s * last;
      d[i + 1] = last + (alpha - gamma);
      p = c > tiny ? gamma * gamma * growth : before * b;
    }
    squares[l] = s * p;
    d[l] = shift + gamma;
  }
  return true;
}

/// All values and vectors by QL sweeps: z, of any number of rows, becomes z*(the vectors), in no order. The safe way,
/// for any matrix. `beside` is destroyed. False if a value did not converge.
/// cost    about 5*n^2*z.rows operations
/// source  EISPACK's imtql2; Golub, Van Loan, Matrix Computations, 8.3
template <class T>
bool tridiagonal_vectors_safely(index_t n, T* d, T* beside, T negligible, matrix_view<T, host_space> z) {
  using loops = vector_loops<T>;
  auto const turn = [&](T* x, T* y, T c, T s) {
    auto const cc = loops::all(c), ss = loops::all(s), minus = loops::all(-s);
    index_t i = 0;
    for (; i + loops::lanes <= z.rows; i += loops::lanes) {
      auto const a = loops::load(x + i), b = loops::load(y + i);
      loops::store(x + i, loops::madd(cc, a, Eigen::internal::pmul(minus, b)));
      loops::store(y + i, loops::madd(ss, a, Eigen::internal::pmul(cc, b)));
    }
    for (; i < z.rows; ++i) {
      T const a = x[i], b = y[i];
      x[i] = c * a - s * b;
      y[i] = s * a + c * b;
    }
  };
  index_t l = 0, sweeps = 30 * n;
  while (l < n) {
    index_t m = l;
    while (m + 1 < n && std::abs(beside[m]) > negligible) ++m;
    if (m == l) {
      ++l;
      continue;
    }
    if (sweeps-- == 0) return false;
    T const half = (d[l + 1] - d[l]) / (2 * beside[l]);
    T g = d[m] - d[l] + beside[l] / (half + std::copysign(std::sqrt(half * half + 1), half)), s = 1, c = 1, p = 0;
    index_t i = m - 1;
    for (; i >= l; --i) {
      T const f = s * beside[i], b = c * beside[i], r = std::sqrt(f * f + g * g);
      beside[i + 1] = r;
      if (r == 0) {  // split in the middle of a sweep
        d[i + 1] -= p;
        beside[m] = 0;
        break;
      }
      s = f / r;
      c = g / r;
      g = d[i + 1] - p;
      T const t = (d[i] - g) * s + 2 * c * b;
      p = s * t;
      d[i + 1] = g + p;
      g = c * t - b;
      turn(z.data + i * z.col_stride, z.data + (i + 1) * z.col_stride, c, s);
    }
    if (i >= l) continue;
    d[l] -= p;
    beside[l] = g;
    if (m + 1 < n) beside[m] = 0;
  }
  return true;
}

/// Vectors of an n x n tridiagonal matrix by inverse iteration, a packet of values at a time: for each, T - value =
/// P*L*U with row exchanges, and two solves from random numbers. They are of length one and each is right; those of
/// close values are not orthogonal yet.
/// source  Wilkinson, The Algebraic Eigenvalue Problem, 5.53; Ipsen, "Computing an eigenvector with inverse iteration",
///         SIAM Review 39 (1997); EISPACK's tinvit
template <class T>
class inverse_iteration {
  using loops = vector_loops<T>;
  using packet = typename loops::packet;
  T const *d_, *beside_;
  T tiny_;
  T* work_;

  static packet load(T const* p) { return loops::load(p); }
  static packet times(packet x, packet y) { return Eigen::internal::pmul(x, y); }
  static packet choose(packet mask, packet x, packet y) { return Eigen::internal::pselect(mask, x, y); }

  packet away_from_zero(packet x) const {
    packet const least = loops::all(tiny_);
    return choose(Eigen::internal::pcmp_lt(Eigen::internal::pabs(x), least), least, x);
  }

 public:
  static constexpr index_t lanes = loops::lanes;
  static index_t elements(index_t n) { return 6 * n * lanes; }

  /// `tiny` replaces pivots below it; `work` has `elements(n)`.
  inverse_iteration(T const* d, T const* beside, T tiny, T* work) : d_(d), beside_(beside), tiny_(tiny), work_(work) {}

  /// Columns of `to`, `ld` apart, become vectors of the first `count` of `lanes` values. `random` has n + lanes
  /// numbers.
  void solve(index_t n, T const* values, T const* random, index_t count, T* to, index_t ld) const {
    T* const inverse = work_;               // of pivots
    T* const right = inverse + n * lanes;   // beside the pivot, in U
    T* const second = right + n * lanes;    // two beside it
    T* const factor = second + n * lanes;   // in L
    T* const swapped = factor + n * lanes;  // masks
    T* const x = swapped + n * lanes;
    packet const shift = load(values), zero = loops::all(T(0)), one = loops::all(T(1));
    auto const at = [](index_t i) { return i * lanes; };
    packet u = Eigen::internal::psub(loops::all(d_[0]), shift), v = loops::all(beside_[0]);
    for (index_t i = 0; i + 1 < n; ++i) {
      packet const b = loops::all(beside_[i]), a = Eigen::internal::psub(loops::all(d_[i + 1]), shift),
                   after = i + 2 < n ? loops::all(beside_[i + 1]) : zero;
      packet const mask = Eigen::internal::pcmp_lt(Eigen::internal::pabs(u), Eigen::internal::pabs(b));
      packet const pivot = away_from_zero(choose(mask, b, u)), other = choose(mask, u, b);
      packet const over = Eigen::internal::pdiv(one, pivot), f = times(other, over);
      packet const beside = choose(mask, a, v), two = choose(mask, after, zero);
      loops::store(inverse + at(i), over);
      loops::store(right + at(i), beside);
      loops::store(second + at(i), two);
      loops::store(factor + at(i), f);
      loops::store(swapped + at(i), mask);
      packet const minus = Eigen::internal::pnegate(f);
      u = loops::madd(minus, beside, choose(mask, v, a));
      v = loops::madd(minus, two, choose(mask, zero, after));
    }
    loops::store(inverse + at(n - 1), Eigen::internal::pdiv(one, away_from_zero(u)));
    for (index_t i = 0; i < n; ++i) loops::store(x + at(i), load(random + i));
    auto const back = [&] {  // x = U^-1*x, and its length
      packet next = zero, beyond = zero, square = zero;
      for (index_t i = n - 1; i >= 0; --i) {
        packet here = load(x + at(i));
        if (i + 1 < n) {
          here = loops::madd(Eigen::internal::pnegate(load(right + at(i))), next, here);
          here = loops::madd(Eigen::internal::pnegate(load(second + at(i))), beyond, here);
        }
        here = times(here, load(inverse + at(i)));
        loops::store(x + at(i), here);
        square = loops::madd(here, here, square);
        beyond = next;
        next = here;
      }
      T lengths[lanes];
      loops::store(lengths, square);
      for (T& length : lengths) length = 1 / std::sqrt(length);
      return load(lengths);
    };
    packet const length = back();
    packet here = times(load(x), length);
    for (index_t i = 0; i + 1 < n; ++i) {
      packet const mask = load(swapped + at(i)), below = times(load(x + at(i + 1)), length);
      packet const top = choose(mask, below, here), bottom = choose(mask, here, below);
      loops::store(x + at(i), top);
      here = loops::madd(Eigen::internal::pnegate(load(factor + at(i))), top, bottom);
    }
    loops::store(x + at(n - 1), here);
    packet const last = back();
    for (index_t i = 0; i < n; ++i) loops::store(x + at(i), times(load(x + at(i)), last));
    for (index_t j = 0; j < count; ++j)
      for (index_t i = 0; i < n; ++i) to[j * ld + i] = x[at(i) + j];
  }
};

}  // namespace loraga::eigen
