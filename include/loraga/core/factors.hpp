#pragma once
#include <loraga/core/matrix.hpp>
#include <string>
#include <vector>

namespace loraga {

/// Leading singular triplets as views: u is out x k, s is k x 1 (descending), v is in x k.
template <class T, class Space>
struct svd_factors {
  matrix_view<T, Space> u, s, v;
};

/// What an SVD method found out about a matrix beside its triplets, as bits.
enum svd_flag : int {
  svd_usable = 0,           ///< a full answer
  svd_not_finite = 1,       ///< NaN or infinity in the input; the triplets are meaningless
  svd_zero = 2,             ///< the input is zero: sigma = 0, u and v orthonormal but arbitrary
  svd_not_converged = 4,    ///< the eigensolver gave up; the triplets are meaningless
  svd_ill_conditioned = 8,  ///< an optimistic pass broke down; methods repeat it safely, callers never see this
  svd_inaccurate = 16,      ///< the triplets failed their check: not orthonormal, or more energy than the matrix has
  svd_out_of_range = 32     ///< finite, but its norm leaves the type's range, or its squares double's; sigma = 0
};

/// The gravest of these flags in words, for messages.
inline std::string describe_flags(int flags) {
  if (flags & svd_not_finite) return "not finite (NaN or infinity)";
  if (flags & svd_zero) return "zero";
  if (flags & svd_out_of_range) return "finite but too large or too small to be squared (scale it)";
  if (flags & svd_not_converged) return "a matrix whose eigensolver did not converge";
  if (flags & svd_inaccurate) return "a matrix whose singular vectors failed their check";
  return "usable";
}

/// Owned triplets of a batch of matrices of one shape. Flags and energies are on the host.
template <class T, class B>
struct svd_result {
  slab<T, B> u, s, v;
  std::vector<int> flags;  ///< svd_flag bits of each matrix
  /// The squared Frobenius norm of each whole matrix; the sum of s^2 divided by it is the captured share. NaN where it
  /// is not known (incremental_gradient).
  std::vector<double> energy;

  svd_result(B& be, index_t count, index_t rows, index_t cols, index_t k)
      : u(be, count, rows, k),
        s(be, count, k, 1),
        v(be, count, cols, k),
        flags(static_cast<std::size_t>(count)),
        energy(static_cast<std::size_t>(count)) {}
  index_t count() const { return u.count(); }
  /// How many triplets each matrix has.
  index_t triplets() const { return u.cols(); }
  svd_factors<T, typename B::space> operator[](index_t b) { return {u.view()[b], s.view()[b], v.view()[b]}; }
  svd_factors<T const, typename B::space> operator[](index_t b) const {
    return {u.view()[b], s.view()[b], v.view()[b]};
  }
};

}  // namespace loraga
