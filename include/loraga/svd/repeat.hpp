#pragma once
#include <loraga/svd/check_triplets.hpp>
#include <loraga/svd/operators.hpp>

// Attempts at a batch, and what follows where one broke down.

namespace loraga::detail {

/// One attempt at a batch, looked at on the device: what is wrong is in the flags.
template <Backend B, class Method, class T, class C>
void attempt_batch(B& be, Method const& method, dense_operator<T, typename B::space> op,
                   triplet_slabs<C, typename B::space> out, const_view<double, typename B::space> energy, caution how,
                   slab_view<int, typename B::space> flags) {
  loraga::fill(be, flags.side_by_side(), 0);
  method.run(be, op, out, flags, how);
  check_triplets(be, out, energy, op.scale, how, flags);
}

/// Which matrices an attempt has to be repeated for.
inline std::vector<index_t> broken_down(std::vector<int> const& flags) {
  std::vector<index_t> which;
  for (std::size_t b = 0; b < flags.size(); ++b)
    if (flags[b] & svd_ill_conditioned) which.push_back(static_cast<index_t>(b));
  return which;
}

/// Makes all that broke down again at once, with caution::noisy; those that succeed get their flags.
template <Backend B, class Method, class T, class C>
void repeat_with_noise(B& be, Method const& method, dense_operator<T, typename B::space> op,
                       triplet_slabs<C, typename B::space> out, const_view<double, typename B::space> energy,
                       std::vector<int>& found) {
  auto const which = broken_down(found);
  auto const n = static_cast<index_t>(which.size());
  if (n == 0) return;
  scratch<B> temporary(be);
  index_t const k = out.s.rows;
  triplet_slabs<C, typename B::space> const again{temporary.template slab<C>(n, out.u.rows, k),
                                                  temporary.template slab<C>(n, k, 1),
                                                  temporary.template slab<C>(n, out.v.rows, k)};
  auto const energies = temporary.template matrix<double>(n, 1);
  auto const flags = temporary.template slab<int>(n, 1, 1);
  std::vector<matrix_view<T, typename B::space>> matrices;
  for (auto const b : which) matrices.push_back(op.a[b]);
  auto const at = [&](index_t i) { return which[static_cast<std::size_t>(i)]; };
  in_step(be, n, [&](B& w, index_t i) { w.copy(energy.row_range(at(i), 1), energies.row_range(i, 1)); });
  attempt_batch(be, method, dense_operator<T, typename B::space>{view_list(matrices), op.scale}, again,
                const_view<double, typename B::space>(energies), caution::noisy, flags);
  auto const now = read_all(be, flags.side_by_side());
  in_step(be, n, [&](B& w, index_t i) {
    if (now[static_cast<std::size_t>(i)] & svd_ill_conditioned) return;
    w.copy(again.u[i], out.u[at(i)]);
    w.copy(again.s[i], out.s[at(i)]);
    w.copy(again.v[i], out.v[at(i)]);
    found[static_cast<std::size_t>(at(i))] = now[static_cast<std::size_t>(i)];
  });
}

/// The triplets of a batch, and final flags: optimistically, then with more and more caution what broke down.
template <Backend B, class Method, class T, class C>
std::vector<int> factor_with_care(B& be, Method const& method, dense_operator<T, typename B::space> op,
                                  triplet_slabs<C, typename B::space> out,
                                  const_view<double, typename B::space> energy) {
  scratch<B> temporary(be);
  auto const flags = temporary.template slab<int>(op.count(), 1, 1);
  attempt_batch(be, method, op, out, energy, caution::optimistic, flags);
  auto found = read_all(be, flags.side_by_side());
  if constexpr (runs_ahead<B> && requires { Method::takes_noise; })
    repeat_with_noise(be, method, op, out, energy, found);
  for (auto const b : broken_down(found)) {
    auto& flag = found[static_cast<std::size_t>(b)];
    try {
      attempt_batch(be, method, op.matrices(b, 1), out.matrices(b, 1), energy.row_range(b, 1), caution::safe,
                    flags.matrices(b, 1));
      flag = read_all(be, flags.matrices(b, 1).side_by_side())[0];
      if (flag & svd_ill_conditioned) flag ^= svd_ill_conditioned | svd_inaccurate;
    } catch (numeric_error const&) {  // a solver gave up and left NaN, which the safe way refuses to work on
      flag = svd_not_converged;
    }
  }
  return found;
}

}  // namespace loraga::detail
