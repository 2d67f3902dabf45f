#pragma once
#include <algorithm>
#include <loraga/backend/tridiagonal.hpp>
#include <loraga/backend/tridiagonal_eigen.hpp>
#include <numeric>
#include <utility>

namespace loraga::eigen {

/// All values and the k leading vectors of a symmetric tridiagonal matrix. Vectors come from inverse iteration, which
/// costs next to nothing, and are looked at; where they are not right or not independent (many values within rounding
/// of each other) all are found again by QL sweeps.
template <class T>
class tridiagonal_problem {
  using loops = vector_loops<T>;
  using view = matrix_view<T, host_space>;
  template <class U>
  using list = Eigen::Array<U, Eigen::Dynamic, 1>;
  using matrix = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic>;
  static constexpr T eps = std::numeric_limits<T>::epsilon(), negligible = 8 * eps;  // of products of vectors
  index_t n_, k_;
  list<T> const &d_, &e_;       // the diagonal; what is beside it, a zero where a block of its own begins
  T rounding_;                  // of the largest entry
  list<T> values_;              // block by block
  list<index_t> first_, end_;   // of the block that a row is in
  list<index_t> order_, rank_;  // rows of values_ by descending value; ranks of the vectors, block by block
  matrix vectors_, other_, gram_;

  T value(index_t rank) const { return values_[order_[rank]]; }
  bool whole() const { return end_[0] == n_; }

  bool find_values() {
    list<T> squares = e_ * e_;
    for (index_t first = 0, end = 0; first < n_; first = end) {
      for (end = first + 1; e_[end - 1] != 0;) ++end;
      index_t const rows = end - first;
      first_.segment(first, rows).setConstant(first);
      end_.segment(first, rows).setConstant(end);
      T *const d = values_.data() + first, *const s = squares.data() + first;
      std::copy(d_.data() + first, d_.data() + end, d);
      if (std::abs(d[0]) > std::abs(d[rows - 1])) {  // QL sweeps want the small end first
        std::reverse(d, d + rows);
        std::reverse(s, s + rows - 1);
      }
      if (!tridiagonal_values(rows, d, s, rounding_ * rounding_)) return false;
    }
    return true;
  }

  void sort() {
    std::iota(order_.data(), order_.data() + n_, index_t{0});
    std::sort(order_.data(), order_.data() + n_,
              [&](index_t i, index_t j) { return values_[i] > values_[j] || (values_[i] == values_[j] && i < j); });
    std::iota(rank_.data(), rank_.data() + k_, index_t{0});
  }

  /// Columns of length one, those of a block side by side.
  void iterate() {
    constexpr index_t lanes = loops::lanes;
    std::sort(rank_.data(), rank_.data() + k_, [&](index_t i, index_t j) {
      index_t const p = first_[order_[i]], q = first_[order_[j]];
      return p < q || (p == q && i < j);
    });
    list<T> random(n_ + lanes), work(inverse_iteration<T>::elements(n_));
    for (index_t i = 0; i < n_ + lanes; ++i)
      random[i] = static_cast<T>(random_uniform({}, static_cast<std::uint64_t>(i)) - 0.5);
    if (!whole()) vectors_.setZero();
    for (index_t j = 0, count = 0; j < k_; j += count) {
      index_t const first = first_[order_[rank_[j]]], rows = end_[order_[rank_[j]]] - first;
      if (rows == 1) {
        vectors_(first, j) = 1;
        count = 1;
        continue;
      }
      T values[lanes] = {};
      for (count = 0; count < lanes && j + count < k_ && first_[order_[rank_[j + count]]] == first; ++count)
        values[count] = value(rank_[j + count]);
      std::fill(values + count, values + lanes, values[0]);
      inverse_iteration<T>(d_.data() + first, e_.data() + first, rounding_, work.data())
          .solve(rows, values, random.data(), count, &vectors_(first, j), n_);
    }
  }

  /// Makes the vectors orthonormal; false if they are close to dependent.
  bool orthonormalise(packing& memory) {
    constexpr index_t tile = 64;
    for (int pass = 0; pass < 3; ++pass) {
      view const v = view_of(vectors_), gram = view_of(gram_);
      multiply<T>(1, v.transposed(), v, 0, gram, memory, wanted::lower);
      T square = 0;  // of the distance from the identity
      index_t pairs = 0;
      for (index_t j = 0; j < k_; ++j)
        for (index_t i = j; i < k_; ++i) {
          T const departure = gram(i, j) - T(i == j);
          square += departure * departure;
          pairs += std::abs(departure) > negligible;
        }
      if (!is_finite(square)) return false;
      if (square <= eps && pairs <= 9 * k_) {  // what second order leaves is rounding
        straighten();
        return true;
      }
      if (!cholesky_inverse(gram, 1e-10, 0)) return false;
      other_.resize(n_, k_);
      for (index_t j = 0; j < k_; j += tile) {
        index_t const cols = std::min(tile, k_ - j);
        multiply<T>(1, v.columns(0, j + cols), gram.columns(j, cols).row_range(0, j + cols), 0,
                    view_of(other_).columns(j, cols), memory);
      }
      vectors_.swap(other_);
      if (square < T(0.01)) return true;
    }
    return false;
  }

  /// One step of Gram-Schmidt for the few pairs that need it.
  void straighten() {
    for (index_t j = 0; j < k_; ++j)
      for (index_t i = 0; i <= j; ++i) {
        T const part = i == j ? (1 - gram_(j, j)) / 2 : -gram_(j, i);
        if (std::abs(part) > negligible) loops::add(n_, 1, &part, &vectors_(0, i), n_, &vectors_(0, j));
      }
  }

  /// Whether |T*v - value*v| is rounding for all of them.
  bool accurate() const {
    T worst = 0;
    for (index_t j = 0; j < k_; ++j) {
      T const x = value(rank_[j]);
      T const* const v = &vectors_(0, j);
      auto const residual = [&](index_t i) {
        return (d_[i] - x) * v[i] + (i > 0 ? e_[i - 1] * v[i - 1] : 0) + (i + 1 < n_ ? e_[i] * v[i + 1] : 0);
      };
      T sum = residual(0) * residual(0);
      if (n_ > 1) sum += residual(n_ - 1) * residual(n_ - 1);
      index_t i = 1;
      auto part = loops::all(T(0));
      for (; i + loops::lanes < n_; i += loops::lanes) {
        auto r = Eigen::internal::pmul(Eigen::internal::psub(loops::load(&d_[i]), loops::all(x)), loops::load(v + i));
        r = loops::madd(loops::load(&e_[i - 1]), loops::load(v + i - 1), r);
        r = loops::madd(loops::load(&e_[i]), loops::load(v + i + 1), r);
        part = loops::madd(r, r, part);
      }
      sum += panel_loops<T>::sum(part);
      for (; i < n_ - 1; ++i) sum += residual(i) * residual(i);
      if (!is_finite(sum)) return false;
      worst = std::max(worst, sum);
    }
    T const limit = 8 * rounding_;
    return worst <= limit * limit * static_cast<T>(n_);
  }

  bool solve_safely() {
    values_ = d_;
    list<T> beside = e_;
    other_.setZero(n_, n_);
    for (index_t i = 0; i < n_; ++i) other_(i, i) = 1;
    if (!tridiagonal_vectors_safely(n_, values_.data(), beside.data(), rounding_, view_of(other_))) return false;
    sort();
    for (index_t j = 0; j < k_; ++j) vectors_.col(j) = other_.col(order_[j]);
    return true;
  }

 public:
  static view view_of(matrix& m) { return {m.data(), m.rows(), m.cols(), 1, m.rows()}; }

  tridiagonal_problem(index_t k, list<T> const& d, list<T> const& e, T rounding)
      : n_(d.size()),
        k_(k),
        d_(d),
        e_(e),
        rounding_(rounding),
        values_(n_),
        first_(n_),
        end_(n_),
        order_(n_),
        rank_(k),
        vectors_(n_, k),
        gram_(k, k) {}

  /// False if the QL sweeps did not converge. `values`, all n, are descending.
  bool solve(view values, packing& memory) {
    bool right = find_values();
    if (right) {
      sort();
      iterate();
      right = orthonormalise(memory) && accurate();
    }
    if (!right && !solve_safely()) return false;
    for (index_t i = 0; i < n_; ++i) values(i, 0) = value(i);
    return true;
  }
  view vectors() { return view_of(vectors_); }
  /// The place of column j among the descending values.
  index_t rank(index_t j) const { return rank_[j]; }
};

/// Symmetric s: all values, descending, and the leading k eigenvectors in its first k columns; the rest of s is
/// destroyed. False if s is not finite or the iteration did not converge.
/// math    S = Q*T*QT, T tridiagonal; T*v = value*v; the vectors are Q*v
/// loss    rounding: values and residuals to eps*|S|*sqrt(n) or so, whatever the value
/// cost    4/3*n^3 operations for T, 2*n^2*k for Q*v, and n*k^2 to make sure that they are orthonormal
template <class T>
bool eigh(matrix_view<T, host_space> s, index_t k, matrix_view<T, host_space> values, packing& memory) {
  constexpr T eps = std::numeric_limits<T>::epsilon();
  index_t const n = s.rows;
  T const size = panel_loops<T>::size_of(n, s.data, s.col_stride);
  if (!is_finite(size)) return false;
  bool const extreme = size > 0 && std::abs(std::ilogb(size)) > std::numeric_limits<T>::max_exponent / 4;
  T const unit = extreme ? std::ldexp(T(1), -std::ilogb(size)) : T(1);  // squares must exist
  if (extreme)
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < n; ++i) s(i, j) *= unit;
  using list = Eigen::Array<T, Eigen::Dynamic, 1>;
  list diagonal(n), beside = list::Zero(n), factors(n);
  packing work;
  auto* const panels = reinterpret_cast<T*>(work.at_least(tridiagonal_form<T>::bytes(n)));
  tridiagonal_form<T> const form(s, diagonal.data(), beside.data(), factors.data(), eps * eps * size * unit, panels,
                                 memory);
  T largest = 0;
  for (index_t i = 0; i < n; ++i) largest = std::max({largest, std::abs(diagonal[i]), std::abs(beside[i])});
  T const rounding = eps * largest;
  for (index_t i = 0; i < n; ++i)
    if (std::abs(beside[i]) <= rounding) beside[i] = 0;
  tridiagonal_problem<T> problem(k, diagonal, beside, rounding);
  if (!problem.solve(values, memory)) return false;
  form.apply(problem.vectors(), memory);
  auto const found = problem.vectors();
  for (index_t j = 0; j < k; ++j) std::copy(&found(0, j), &found(0, j) + n, &s(0, problem.rank(j)));
  for (index_t i = 0; i < n; ++i) values(i, 0) /= unit;
  return true;
}

}  // namespace loraga::eigen
