#pragma once
#include <loraga/linalg/sign_rule.hpp>
#include <loraga/svd/check_triplets.hpp>
#include <loraga/svd/operators.hpp>

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

/// Flags of the matrices that cannot be factored. Squared norms tell which; where one left double's range, the entries
/// tell why.
template <class C, Backend B, class L>
std::vector<int> unusable_members(B& be, L const& a, std::vector<double> const& energy) {
  std::vector<int> flags;
  for (index_t b = 0; b < a.count; ++b) {
    double const e = energy[static_cast<std::size_t>(b)];
    if (e >= 1e-280 && e <= 1e280) {
      bool const fits = std::sqrt(e) <= static_cast<double>(std::numeric_limits<C>::max());
      flags.push_back(fits ? svd_usable : svd_out_of_range);
      continue;
    }
    scratch<B> temporary(be);
    auto const cell = temporary.template matrix<double>(1, 1);
    max_abs(be, a[b], cell);
    double const largest = read_scalar(be, cell);
    flags.push_back(!is_finite(largest) ? svd_not_finite : largest == 0 ? svd_zero : svd_out_of_range);
  }
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
  auto const energy = temporary.template matrix<double>(a.count, 1);
  for (index_t b = 0; b < a.count; ++b) sum_of_squares(be, a[b], energy.row_range(b, 1));
  result.energy = read_all(be, energy);

  auto const run = [&](B& worker, dense_operator<T, space> op, triplet_slabs<C, space> to, index_t first) {
    scratch<B> more(worker);
    auto const flags = more.template slab<int>(op.count(), 1, 1);
    auto const attempt = [&](index_t b, index_t n, caution how) {
      auto const part = flags.matrices(b, n);
      auto const triplets = to.matrices(b, n);
      fill(worker, part.side_by_side(), 0);
      method.run(worker, op.matrices(b, n), triplets, part, how);
      check_triplets(worker, triplets, matrix_view<double const, space>(energy.row_range(first + b, n)), op.scale, how,
                     part);
      return read_all(worker, part.side_by_side());
    };
    auto const found = attempt(0, op.count(), caution::optimistic);
    for (index_t b = 0; b < op.count(); ++b) {
      int flag = found[static_cast<std::size_t>(b)];
      if (flag & svd_ill_conditioned) try {
          flag = attempt(b, 1, caution::safe)[0];
          if (flag & svd_ill_conditioned) flag ^= svd_ill_conditioned | svd_inaccurate;
        } catch (numeric_error const&) {  // a solver gave up and left NaN, which the safe way refuses to work on
          flag = svd_not_converged;
        }
      result.flags[static_cast<std::size_t>(first + b)] |= flag;
    }
    if (op.scale != 1.0) axpby(worker, 1 / op.scale, to.s.side_by_side(), 0.0, to.s.side_by_side());
  };

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
    be.for_each_chunk(last - first, [&](B& worker, index_t offset, index_t n) {
      index_t const begin = first + offset;
      run(worker, {a.matrices(begin, n), scale}, out.matrices(begin, n), begin);
    });
  }
  apply_sign_rule(be, out.u.side_by_side(), out.v.side_by_side());
  return result;
}

}  // namespace loraga
