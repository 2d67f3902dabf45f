#pragma once
#include <loraga/backend/checks.hpp>
#include <loraga/core/float16.hpp>
#include <loraga/core/matrix.hpp>
#include <loraga/core/workspace.hpp>

// Products of a thin float matrix with bf16 activations. Widening the activations would write and read float copies of
// them; instead the thin one is taken apart into bf16 matrices, side by side in one product on tensor cores. fp16 has
// too short a range for that: parts of numbers below 0.1 would lose bits to its subnormals.

namespace loraga::gpu {

/// x = high + middle + low, exactly: three times 8 bits are float's 24, as long as the low part is not below bf16's
/// subnormals (x above 2^-110 or so). What is not finite is in `high` alone, so that 0 does not come out of it.
struct three_parts {
  bf16 high, middle, low;
  LORAGA_HD explicit three_parts(float x) : high(x) {
    if (!is_finite(as_double(x))) return;
    constexpr std::uint16_t largest = 0x7f7f, sign = 0x8000;
    if (!is_finite(as_double(high))) high.bits = static_cast<std::uint16_t>((high.bits & sign) | largest);
    float const rest = x - static_cast<float>(high);
    middle = bf16(rest);
    low = bf16(rest - static_cast<float>(middle));
  }
};

/// Whether c = a*b has one thin float operand, and one in bf16 that is worth leaving as it is.
template <class TA, class TB, class TC>
inline constexpr bool has_thin_product = std::is_same_v<TC, float> &&
                                         ((std::is_same_v<TA, float> && std::is_same_v<TB, bf16>) ||
                                          (std::is_same_v<TA, bf16> && std::is_same_v<TB, float>));
/// Whether it is a sum of few products of float columns and rows, in bf16.
template <class TA, class TB, class TC>
inline constexpr bool has_outer_product =
    std::is_same_v<TA, float>&& std::is_same_v<TB, float>&& std::is_same_v<TC, bf16>;

/// Thin enough that three times as much of it is little.
inline bool is_thin(index_t thin, index_t other, index_t depth) { return 4 * thin <= std::min(other, depth); }

template <class A, class P>
struct split_rows {
  A a;
  P high, middle, low;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    three_parts const parts(a(i, j));
    high(i, j) = parts.high;
    middle(i, j) = parts.middle;
    low(i, j) = parts.low;
  }
};

template <class S, class C>
struct add_parts {
  S high, middle, low;
  C c;
  float alpha, beta;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const sum = alpha * ((low(i, j) + middle(i, j)) + high(i, j));
    c(i, j) = beta == 0 ? sum : beta * c(i, j) + sum;
  }
};

/// c = alpha*a*b + beta*c for a thin float a and b in bf16: as exact as in float.
/// math    a = a1 + a2 + a3 in bf16; one product [a1; a2; a3]*b, whose three parts are added
/// cost    three launches; scratch for 1.5 times a and three times c
template <class B, class A, class Bv, class C>
void multiply_thin(B& be, double alpha, A a, Bv b, double beta, C c) {
  index_t const m = a.rows, k = a.cols, n = b.cols;
  scratch<B> temporary(be);
  auto const stack = [&](auto type, index_t cols, bool columns) {
    using T = decltype(type);
    if (columns) return temporary.template matrix<T>(3 * m, cols);
    return temporary.template matrix<T>(cols, 3 * m).transposed();
  };
  // grids run along memory
  auto const along = [&](bool columns, auto v) { return columns ? v : v.transposed(); };
  bool const a_columns = by_columns(a), c_columns = by_columns(c);
  auto const parts = stack(bf16(), k, a_columns);
  auto const sums = stack(float(), n, c_columns);
  auto const part = [m](auto v, index_t p, bool columns, auto const& turn) {
    return turn(columns, v.row_range(p * m, m));
  };
  auto const from = along(a_columns, a);
  be.for_each(
      from.rows, from.cols,
      split_rows<decltype(from), decltype(parts)>{from, part(parts, 0, a_columns, along),
                                                  part(parts, 1, a_columns, along), part(parts, 2, a_columns, along)});
  be.gemm(1.0, parts, b, 0.0, sums);
  auto const to = along(c_columns, c);
  be.for_each(to.rows, to.cols,
              add_parts<decltype(sums), decltype(to)>{part(sums, 0, c_columns, along), part(sums, 1, c_columns, along),
                                                      part(sums, 2, c_columns, along), to, static_cast<float>(alpha),
                                                      static_cast<float>(beta)});
}

/// Column j of a (m x k) and of bT (n x k) into blocks of l (m x 6k) and rT (n x 6k): those of all pairs of parts whose
/// product matters in float.
template <class A, class P>
struct split_outer {
  A a, bt;
  P l, rt;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const k = a.cols;
    if (i < a.rows) {
      three_parts const p(a(i, j));
      l(i, j) = l(i, k + j) = l(i, 3 * k + j) = p.high;
      l(i, 2 * k + j) = l(i, 4 * k + j) = p.middle;
      l(i, 5 * k + j) = p.low;
    }
    if (i < bt.rows) {
      three_parts const p(bt(i, j));
      rt(i, j) = rt(i, 2 * k + j) = rt(i, 5 * k + j) = p.high;
      rt(i, k + j) = rt(i, 4 * k + j) = p.middle;
      rt(i, 3 * k + j) = p.low;
    }
  }
};

/// c = alpha*a*b + beta*c for float a, b of little depth and c in bf16, rounded once: no float matrix of c's size.
/// loss    parts' products below 2^-24 of |a|*|b| are left out
/// cost    two launches; scratch for three times a and b
template <class B, class A, class Bv, class C>
void multiply_outer(B& be, double alpha, A a, Bv b, double beta, C c) {
  index_t const k = a.cols;
  scratch<B> temporary(be);
  auto const l = temporary.template matrix<bf16>(a.rows, 6 * k), rt = temporary.template matrix<bf16>(b.cols, 6 * k);
  be.for_each(std::max(a.rows, b.cols), k, split_outer<A, decltype(l)>{a, b.transposed(), l, rt});
  be.gemm(alpha, l, rt.transposed(), beta, c);
}

}  // namespace loraga::gpu
