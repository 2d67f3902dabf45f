#pragma once
#include <algorithm>
#include <cmath>
#include <loraga/core/philox.hpp>
#include <numeric>
#include <vector>

// Plain host matrices in double and naive reference algorithms: what every backend is compared with. Nothing here
// shares code with the library but the random numbers.

namespace test {

using loraga::index_t;

struct host {
  index_t rows = 0, cols = 0;
  std::vector<double> data;
  host() = default;
  host(index_t r, index_t c, double value = 0) : rows(r), cols(c), data(static_cast<std::size_t>(r * c), value) {}
  double& operator()(index_t i, index_t j) { return data[static_cast<std::size_t>(i + j * rows)]; }
  double operator()(index_t i, index_t j) const { return data[static_cast<std::size_t>(i + j * rows)]; }
};

template <class F>
host generate(index_t rows, index_t cols, F f) {
  host m(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) m(i, j) = f(i, j);
  return m;
}
inline host random(index_t rows, index_t cols, std::uint64_t seed, double deviation = 1) {
  return generate(rows, cols, [&](index_t i, index_t j) {
    return deviation * loraga::random_normal({seed, 99}, static_cast<std::uint64_t>(i + j * rows));
  });
}
inline host identity(index_t n) {
  return generate(n, n, [](index_t i, index_t j) { return i == j; });
}
inline host diagonal(index_t rows, index_t cols, std::vector<double> const& d) {
  return generate(rows, cols, [&](index_t i, index_t j) { return i == j ? d[static_cast<std::size_t>(i)] : 0.0; });
}
inline host transpose(host const& a) {
  return generate(a.cols, a.rows, [&](index_t i, index_t j) { return a(j, i); });
}
inline host operator*(host const& a, host const& b) {
  return generate(a.rows, b.cols, [&](index_t i, index_t j) {
    double sum = 0;
    for (index_t k = 0; k < a.cols; ++k) sum += a(i, k) * b(k, j);
    return sum;
  });
}
inline host operator*(double s, host a) {
  for (double& x : a.data) x *= s;
  return a;
}
inline host operator+(host a, host const& b) {
  for (std::size_t i = 0; i < a.data.size(); ++i) a.data[i] += b.data[i];
  return a;
}
inline host operator-(host const& a, host const& b) { return a + -1.0 * b; }
inline host columns(host const& a, index_t first, index_t n) {
  return generate(a.rows, n, [&](index_t i, index_t j) { return a(i, first + j); });
}
inline host rows(host const& a, index_t first, index_t n) { return transpose(columns(transpose(a), first, n)); }

inline double norm(host const& a) {
  return std::sqrt(std::inner_product(a.data.begin(), a.data.end(), a.data.begin(), 0.0));
}
inline double largest(host const& a) {
  double m = 0;
  for (double const x : a.data) m = std::isfinite(x) ? std::max(m, std::abs(x)) : INFINITY;
  return m;
}
inline double distance(host const& a, host const& b) {
  return a.rows == b.rows && a.cols == b.cols ? largest(a - b) : INFINITY;
}
inline double inner(host const& a, host const& b) {
  return std::inner_product(a.data.begin(), a.data.end(), b.data.begin(), 0.0);
}
/// max |QT*Q - I|
inline double orthonormality(host const& q) { return distance(transpose(q) * q, identity(q.cols)); }
/// Distance of two column spaces of orthonormal bases, by their projectors.
inline double subspace_distance(host const& a, host const& b) { return norm(a * transpose(a) - b * transpose(b)); }

/// Orthonormal columns, by Gram-Schmidt done twice on random ones.
inline host orthonormal(index_t rows, index_t cols, std::uint64_t seed) {
  host q = random(rows, cols, seed);
  for (index_t j = 0; j < cols; ++j)
    for (int round = 0; round < 2; ++round) {
      for (index_t p = 0; p < j; ++p) {
        double dot = 0;
        for (index_t i = 0; i < rows; ++i) dot += q(i, p) * q(i, j);
        for (index_t i = 0; i < rows; ++i) q(i, j) -= dot * q(i, p);
      }
      double length = 0;
      for (index_t i = 0; i < rows; ++i) length += q(i, j) * q(i, j);
      for (index_t i = 0; i < rows; ++i) q(i, j) /= std::sqrt(length);
    }
  return q;
}

struct triplets {
  host u;
  std::vector<double> s;
  host v;
};
/// A matrix of given singular values (as many as there are), with its triplets.
inline host with_spectrum(index_t rows, index_t cols, std::vector<double> const& sigma, std::uint64_t seed) {
  auto const k = static_cast<index_t>(sigma.size());
  return orthonormal(rows, k, seed) * diagonal(k, k, sigma) * transpose(orthonormal(cols, k, seed + 1));
}
/// sigma_i = first*ratio^i
inline std::vector<double> geometric(index_t n, double ratio, double first = 1) {
  std::vector<double> s;
  for (index_t i = 0; i < n; ++i) s.push_back(first * std::pow(ratio, static_cast<double>(i)));
  return s;
}

/// All singular triplets by one-sided Jacobi, descending; the reference for every SVD here. Small matrices only.
inline triplets jacobi_svd(host const& input) {
  if (input.rows < input.cols) {
    auto t = jacobi_svd(transpose(input));
    return {t.v, t.s, t.u};
  }
  host a = input, v = identity(a.cols);
  for (int sweep = 0; sweep < 60; ++sweep) {
    double off = 0;
    for (index_t p = 0; p < a.cols; ++p)
      for (index_t q = p + 1; q < a.cols; ++q) {
        double app = 0, aqq = 0, apq = 0;
        for (index_t i = 0; i < a.rows; ++i) {
          app += a(i, p) * a(i, p);
          aqq += a(i, q) * a(i, q);
          apq += a(i, p) * a(i, q);
        }
        if (std::abs(apq) <= 1e-17 * std::sqrt(app * aqq)) continue;
        off = std::max(off, std::abs(apq) / std::sqrt(app * aqq));
        double const zeta = (aqq - app) / (2 * apq);
        double const t = std::copysign(1 / (std::abs(zeta) + std::hypot(1.0, zeta)), zeta);
        double const c = 1 / std::hypot(1.0, t), s = c * t;
        for (host* m : {&a, &v})
          for (index_t i = 0; i < m->rows; ++i) {
            double const x = (*m)(i, p), y = (*m)(i, q);
            (*m)(i, p) = c * x - s * y;
            (*m)(i, q) = s * x + c * y;
          }
      }
    if (off < 1e-15) break;
  }
  std::vector<double> length;
  std::vector<index_t> order;
  for (index_t j = 0; j < a.cols; ++j) {
    length.push_back(norm(columns(a, j, 1)));
    order.push_back(j);
  }
  std::sort(order.begin(), order.end(), [&](index_t x, index_t y) {
    return length[static_cast<std::size_t>(x)] > length[static_cast<std::size_t>(y)];
  });
  triplets t{host(a.rows, a.cols), {}, host(v.rows, v.cols)};
  for (index_t j = 0; j < a.cols; ++j) {
    index_t const from = order[static_cast<std::size_t>(j)];
    t.s.push_back(length[static_cast<std::size_t>(from)]);
    for (index_t i = 0; i < a.rows; ++i) t.u(i, j) = t.s.back() > 0 ? a(i, from) / t.s.back() : 0;
    for (index_t i = 0; i < v.rows; ++i) t.v(i, j) = v(i, from);
  }
  return t;
}

}  // namespace test
