#pragma once
#include <loraga/linalg/sign_rule.hpp>
#include <loraga/svd/operators.hpp>
#include <loraga/svd/rayleigh_ritz.hpp>

namespace loraga {

/// Throws unless `a` is a batch of equal usable views with at least k singular triplets.
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

/// What all SVD methods share: measures every matrix once (that read also yields the energy), sorts out what cannot
/// be factored, runs method.run on the rest, optimistically, in whole batches on a GPU and matrix by matrix in
/// parallel on a CPU, repeats with caution what broke down, and applies the sign rule.
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
  {
    scratch<B> temporary(be);
    auto const energy = temporary.template matrix<double>(a.count, 1);
    for (index_t b = 0; b < a.count; ++b) sum_of_squares(be, a[b], energy.row_range(b, 1));
    result.energy = read_all(be, energy);
  }
  auto const scale_of = [&](index_t b) { return safe_scale(result.energy[static_cast<std::size_t>(b)]); };
  auto const usable = [&](index_t b) {
    double const e = result.energy[static_cast<std::size_t>(b)];
    return is_finite(e) && e > 0 && std::sqrt(e) <= static_cast<double>(std::numeric_limits<C>::max());
  };
  auto const run = [&](B& worker, dense_operator<T, space> op, triplet_slabs<C, space> to, index_t first) {
    scratch<B> temporary(worker);
    auto const flags = temporary.template slab<int>(op.count(), 1, 1);
    fill(worker, flags.side_by_side(), 0);
    method.run(worker, op, to, flags, caution::optimistic);
    auto found = read_all(worker, flags.side_by_side());
    for (index_t b = 0; b < op.count(); ++b) {
      auto& flag = found[static_cast<std::size_t>(b)];
      if (flag & svd_ill_conditioned) {
        fill(worker, flags[b], 0);
        try {
          method.run(worker, op.one(b), to.matrices(b, 1), flags.matrices(b, 1), caution::safe);
          flag = read_scalar(worker, flags[b]);
        } catch (numeric_error const&) {  // a solver gave up and left NaN, which the safe way refuses to work on
          flag = svd_not_converged;
        }
      }
      flag &= ~svd_ill_conditioned;
      result.flags[static_cast<std::size_t>(first + b)] |= flag;
    }
    if (op.scale != 1.0) axpby(worker, 1 / op.scale, to.s.side_by_side(), 0.0, to.s.side_by_side());
  };

  for (index_t first = 0, last; first < a.count; first = last) {
    last = first + 1;
    if (!usable(first)) {
      bool const zero = result.energy[static_cast<std::size_t>(first)] == 0;
      result.flags[static_cast<std::size_t>(first)] = zero ? svd_zero : svd_not_finite;
      random_orthonormal(be, out.u[first], derive(stream, 3));
      random_orthonormal(be, out.v[first], derive(stream, 4));
      fill(be, out.s[first], 0);
      continue;
    }
    double const scale = scale_of(first);
    while (last < a.count && usable(last) && scale_of(last) == scale) ++last;
    be.for_each_chunk(last - first, [&](B& worker, index_t offset, index_t n) {
      index_t const begin = first + offset;
      run(worker, {a.matrices(begin, n), scale}, out.matrices(begin, n), begin);
    });
  }
  apply_sign_rule(be, out.u.side_by_side(), out.v.side_by_side());
  return result;
}

}  // namespace loraga
