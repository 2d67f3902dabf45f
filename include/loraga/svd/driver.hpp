#pragma once
#include <loraga/linalg/sign_rule.hpp>
#include <loraga/svd/repeat.hpp>
#include <loraga/svd/unread.hpp>

namespace loraga {

/// Throws shape_error unless `a` is a batch of usable views of one shape with at least k singular triplets.
template <class L>
void require_batch(L const& a, index_t k, std::string_view where) {
  for (index_t b = 0; b < a.count; ++b) {
    require_matrix(a[b], where, "matrix");
    require_shape(a[b], a.rows, a.cols, where, "matrix " + std::to_string(b));
  }
  if (a.count > 0 && (k < 1 || k > std::min(a.rows, a.cols)))
    raise<shape_error>(where, "k", std::to_string(k),
                       "1.." + std::to_string(std::min(a.rows, a.cols)) + " for " + shape_text(a.rows, a.cols));
}

namespace detail {

/// Bytes of scratch that a method takes for each matrix of a batch; 0 where it does not say how many numbers.
template <class Method, class L>
index_t scratch_of(Method const& method, L const& a, index_t k) {
  if constexpr (requires { method.scratch_numbers(a.rows, a.cols, k); })
    return method.scratch_numbers(a.rows, a.cols, k) * static_cast<index_t>(sizeof(compute_t<typename L::value_type>));
  else return 0;
}

/// Squared norms of a batch, on the device.
template <Backend B, class L>
void measure_energies(B& be, L const& a, matrix_view<double, typename B::space> energy) {
  in_step(be, a.count, [&](B& w, index_t b) { sum_of_squares(w, a[b], energy.row_range(b, 1)); });
}

/// Marks matrices that a look at their squared norm could treat in another way: to be made anew after that look.
template <class E, class F>
struct flag_unusual_energies {
  E energy;  // count x 1
  F flags;   // 1 x count
  double least, most;
  LORAGA_HD void operator()(index_t, index_t b) const {
    if (!(energy(b, 0) >= least && energy(b, 0) <= most)) flags(0, b) |= svd_ill_conditioned;
  }
};

}  // namespace detail

/// Flags of the matrices that cannot be factored. Squared norms tell which; where one left double's range, the entries
/// tell why.
template <class C, Backend B, class L>
std::vector<int> unusable_members(B& be, L const& a, std::vector<double> const& energy) {
  std::vector<int> flags;
  std::vector<index_t> unclear;
  for (index_t b = 0; b < a.count; ++b) {
    double const e = energy[static_cast<std::size_t>(b)];
    bool const known = e >= 1e-280 && e <= 1e280;
    bool const fits = known && std::sqrt(e) <= static_cast<double>(std::numeric_limits<C>::max());
    flags.push_back(fits ? svd_usable : svd_out_of_range);
    if (!known) unclear.push_back(b);
  }
  if (unclear.empty()) return flags;
  scratch<B> temporary(be);
  auto const cells = temporary.template matrix<double>(static_cast<index_t>(unclear.size()), 1);
  detail::in_step(be, cells.rows,
                  [&](B& w, index_t i) { max_abs(w, a[unclear[static_cast<std::size_t>(i)]], cells.row_range(i, 1)); });
  auto const largest = read_all(be, cells);
  for (std::size_t i = 0; i < unclear.size(); ++i)
    if (!is_finite(largest[i]) || largest[i] == 0)
      flags[static_cast<std::size_t>(unclear[i])] = largest[i] == 0 ? svd_zero : svd_not_finite;
  return flags;
}

/// What all SVD methods share. It measures every matrix once and sets aside what cannot be factored. On the rest it
/// runs method.run optimistically: in whole batches on a GPU, matrix by matrix in parallel on a CPU. Then it looks at
/// the answers, repeats with caution what broke down, and applies the sign rule.
/// errors  shape_error for bad views or k; numeric faults become flags
template <Backend B, class Method, class T>
svd_result<compute_t<std::remove_const_t<T>>, B> factor_batch(B& be, Method const& method,
                                                              view_list<T, typename B::space> a, index_t k,
                                                              random_stream stream, std::string_view where) {
  using C = compute_t<std::remove_const_t<T>>;
  using space = typename B::space;
  require_batch(a, k, where);
  [[maybe_unused]] auto const precise = be.full_precision();
  svd_result<C, B> result(be, a.count, a.rows, a.cols, k);
  triplet_slabs<C, space> const out{result.u.view(), result.s.view(), result.v.view()};
  scratch<B> temporary(be);
  a = detail::prepared(be, temporary, a);
  auto const energy = temporary.template matrix<double>(a.count, 1);
  detail::measure_energies(be, a, energy);
  result.energy = read_all(be, energy);

  std::vector<int> const unusable = unusable_members<C>(be, a, result.energy);
  for (index_t first = 0, last; first < a.count; first = last) {
    last = first + 1;
    auto const at = [](index_t b) { return static_cast<std::size_t>(b); };
    if (unusable[at(first)]) {
      result.flags[at(first)] |= unusable[at(first)];
      random_orthonormal(be, out.u[first], derive(stream, 3));
      random_orthonormal(be, out.v[first], derive(stream, 4));
      fill(be, out.s[first], 0);
      continue;
    }
    double const scale = safe_scale(result.energy[at(first)]);
    while (last < a.count && !unusable[at(last)] && safe_scale(result.energy[at(last)]) == scale) ++last;
    detail::for_each_chunk(
        be, last - first, detail::scratch_of(method, a, k), [&](B& worker, index_t offset, index_t n) {
          index_t const begin = first + offset;
          auto const to = out.matrices(begin, n);
          auto const flags =
              detail::factor_with_care(worker, method, dense_operator<T, space>{a.matrices(begin, n), scale}, to,
                                       const_view<double, space>(energy.row_range(begin, n)));
          for (index_t b = 0; b < n; ++b) result.flags[at(begin + b)] |= flags[at(b)];
          if (scale != 1.0) axpby(worker, 1 / scale, to.s.side_by_side(), 0.0, to.s.side_by_side());
        });
  }
  apply_sign_rule(be, out.u.side_by_side(), out.v.side_by_side());
  return result;
}

/// The same without a look: one attempt at all of them, whose flags stay on the device. What would have been treated in
/// another way has a flag, too. Energies are not known.
/// errors  shape_error for bad views or k
template <Backend B, class Method, class T>
svd_result<compute_t<std::remove_const_t<T>>, B> factor_batch(B& be, Method const& method,
                                                              view_list<T, typename B::space> a, index_t k,
                                                              random_stream, std::string_view where,
                                                              unread_flags<B>& unread) {
  using C = compute_t<std::remove_const_t<T>>;
  using space = typename B::space;
  require_batch(a, k, where);
  [[maybe_unused]] auto const precise = be.full_precision();
  svd_result<C, B> result(be, a.count, a.rows, a.cols, k);
  triplet_slabs<C, space> const out{result.u.view(), result.s.view(), result.v.view()};
  result.energy.assign(result.energy.size(), std::numeric_limits<double>::quiet_NaN());
  auto const flags = unread.add(be, a.count);
  scratch<B> temporary(be);
  a = detail::prepared(be, temporary, a);
  auto const energy = temporary.template matrix<double>(a.count, 1);
  detail::measure_energies(be, a, energy);
  detail::for_each_chunk(be, a.count, detail::scratch_of(method, a, k), [&](B& worker, index_t first, index_t n) {
    detail::attempt_batch(worker, method, dense_operator<T, space>{a.matrices(first, n)}, out.matrices(first, n),
                          const_view<double, space>(energy.row_range(first, n)), caution::optimistic,
                          flags.matrices(first, n));
  });
  using F = matrix_view<int, space>;
  be.for_each(1, a.count,
              detail::flag_unusual_energies<decltype(energy), F>{energy, flags.side_by_side(), least_plain_energy,
                                                                 most_plain_energy});
  apply_sign_rule(be, out.u.side_by_side(), out.v.side_by_side());
  return result;
}

}  // namespace loraga
