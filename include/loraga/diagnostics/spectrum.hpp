#pragma once
#include <loraga/core/factors.hpp>
#include <loraga/linalg/reductions.hpp>

namespace loraga {

/// Share of a matrix's energy in its k leading triplets, from member b of an SVD's result. Waits for the backend.
/// math    sum_{i<k} sigma_i^2 / ||G||_F^2; LoRA-GA uses k = 2r
/// errors  shape_error if the result holds no member b or fewer than k triplets; numeric_error if the matrix was not
///         usable, if its energy is not known (incremental_gradient never sees it: use first_step_alignment), or if
///         more than all of it was captured: the triplets or the energy are another matrix's
template <Backend B, class T>
double coverage(B& be, svd_result<T, B> const& result, index_t b, index_t k) {
  if (k < 0 || k > result.triplets())
    raise<shape_error>("coverage", "k", std::to_string(k), "at most " + std::to_string(result.triplets()));
  if (b < 0 || b >= result.count())
    raise<shape_error>("coverage", "b", std::to_string(b), "below " + std::to_string(result.count()));
  auto const i = static_cast<std::size_t>(b);
  if (result.flags[i] != svd_usable)
    raise<numeric_error>("coverage", "matrix", describe_flags(result.flags[i]), "finite and not zero");
  if (!is_finite(result.energy[i])) raise<numeric_error>("coverage", "energy", "not known", "a dense gradient's");
  double captured = 0;
  for (T const s : read_all(be, result[b].s.row_range(0, k)))
    captured += static_cast<double>(s) * static_cast<double>(s);
  double const share = captured / result.energy[i];
  if (!(share <= 1.0001)) raise<numeric_error>("coverage", "captured/energy", std::to_string(share), "at most 1");
  return share;
}

/// How many directions a spectrum really uses: n for n equal singular values, 1 for a single one.
/// math    exp(-sum p_i*log p_i), p_i = sigma_i/sum sigma
/// errors  numeric_error if the values are not finite, negative, or all zero
/// source  Roy, Vetterli, "The effective rank", EUSIPCO 2007
template <class T>
double effective_rank(std::vector<T> const& sigma) {
  double sum = 0, entropy = 0;
  for (T const s : sigma) {
    if (!(s >= 0)) raise<numeric_error>("effective_rank", "sigma", std::to_string(s), "singular values");
    sum += static_cast<double>(s);
  }
  if (!(sum > 0) || !is_finite(sum)) raise<numeric_error>("effective_rank", "sigma", "zero or infinite", "a spectrum");
  for (T const s : sigma)
    if (s > 0) entropy -= static_cast<double>(s) / sum * std::log(static_cast<double>(s) / sum);
  return std::exp(entropy);
}

}  // namespace loraga
