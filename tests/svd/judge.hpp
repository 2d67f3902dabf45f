#pragma once
#include "structured.hpp"

// What singular triplets must be, looked at in double.

namespace test {

/// How far an answer is from what it must be. All relative; 0 is perfect.
struct judgement {
  double orthonormality = 0;  ///< max |QT*Q - I| of U and V
  double ascent = 0;          ///< by how much a value exceeds the one before, or 0 exceeds it, over sigma_1
  double excess = 0;      ///< by how much a value exceeds the matrix's own, over sigma_1, or their energy all there is
  double loss = 0;        ///< 1 - captured/optimal energy
  double short_side = 0;  ///< max |AT*u - s*v|, or |A*v - s*u|: the one that is exact; over sigma_1
  double long_side = 0;   ///< the other one, Frobenius, less what the loss explains, over sigma_1
};

/// `sigma`: the matrix's own values, descending. `rounding` of squares, in relation to their sum: what the loss itself
/// is known to.
/// `left_exact`: whether AT*u = s*v holds by construction, as for m <= n (and always for incremental_gradient).
inline judgement judge(host const& a, std::vector<double> const& sigma, triplets const& got, double rounding,
                       bool left_exact) {
  judgement j;
  index_t const k = got.u.cols;
  auto const worst = [](double& to, double x) { to = std::isnan(x) ? INFINITY : std::max(to, x); };
  for (auto const* q : {&got.u, &got.v}) worst(j.orthonormality, orthonormality(*q));
  double const first = sigma[0], all = inner(a, a);
  double captured = 0, optimal = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(k); ++i) {
    double const s = got.s[i];
    worst(j.ascent, i > 0 ? (s - got.s[i - 1]) / first : 0);
    worst(j.ascent, -s / first);
    worst(j.excess, (s - sigma[i]) / first);
    captured += s * s;
    optimal += sigma[i] * sigma[i];
  }
  worst(j.excess, captured / all - 1);
  worst(j.loss, 1 - captured / optimal);
  host left = transpose(a) * got.u, right = a * got.v;
  for (index_t c = 0; c < k; ++c) {
    for (index_t i = 0; i < left.rows; ++i) left(i, c) -= got.s[static_cast<std::size_t>(c)] * got.v(i, c);
    for (index_t i = 0; i < right.rows; ++i) right(i, c) -= got.s[static_cast<std::size_t>(c)] * got.u(i, c);
  }
  for (index_t c = 0; c < k; ++c) worst(j.short_side, norm(columns(left_exact ? left : right, c, 1)) / first);
  // For orthonormal V, |A*V|^2 is at most the optimal energy: what was not captured bounds this residual.
  double const lost = std::max(0.0, optimal - captured) + rounding * optimal;
  worst(j.long_side, (norm(left_exact ? right : left) - std::sqrt(lost)) / first);
  return j;
}

/// What an answer may be short of, in T; `loss` as the method promises. Empty if nothing is wrong.
template <class T>
std::string faults(host const& a, std::vector<double> const& sigma, triplets const& got, double loss, bool left_exact,
                   judgement& j) {
  constexpr bool fine = std::is_same_v<T, double>;
  j = judge(a, sigma, got, loss > 2e-5 ? (fine ? 1e-13 : 1e-6) : 0, left_exact);
  // A Gram matrix in double reports 0 for what is below 1.5e-8*sigma_1*sqrt(m).
  double const value = fine ? 3e-8 * std::sqrt(static_cast<double>(std::min(a.rows, a.cols))) : 2e-5;
  std::string text;
  auto const check = [&](char const* what, double x, double most) {
    char number[40];
    std::snprintf(number, sizeof number, " %.2e", x);
    if (!(x <= most)) text += (text.empty() ? "" : ", ") + std::string(what) + number;
  };
  check("orthonormality", j.orthonormality, fine ? 1e-11 : 1e-5);
  check("ascent", j.ascent, 0);
  check("excess", j.excess, value);
  check("loss", j.loss, loss);
  check("short side", j.short_side, value);
  check("long side", j.long_side, value * std::sqrt(static_cast<double>(got.u.cols)));
  return text;
}

/// Whether no few directions stand out.
inline bool is_flat(std::vector<double> const& sigma) {
  return sigma[std::min<std::size_t>(16, sigma.size()) - 1] > 0.4 * sigma[0];
}

/// What automatic_svd promises to lose at most, which depends on how flat the matrix is.
inline double promised_loss(std::vector<double> const& sigma, bool tight) {
  bool const flat = is_flat(sigma);
  return tight ? (flat ? 5e-2 : 1e-4) : flat ? 1e-1 : 1.5e-3;
}

}  // namespace test
