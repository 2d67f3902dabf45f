#pragma once
#include <limits>
#include <loraga/backend/cuda_products.cuh>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/reductions.hpp>
#include <vector>

// Batched Cholesky and symmetric eigenproblems through cuSOLVER. What went wrong with a matrix is noted in flags on the
// device. Nothing here waits; whether cuSOLVER does inside XsyevBatched is not documented.

namespace loraga::gpu {

/// What one call of cuSOLVER is given of a batch. Its documentation names no limit for batches; other libraries of its
/// kind count a batch's bytes in int, and their grids end at 2^16: a larger batch goes in several calls.
inline constexpr index_t solver_bytes = (index_t{1} << 31) - 1, solver_members = 1 << 14;
inline index_t solver_share(index_t n, index_t count, index_t bytes = solver_bytes) {
  return equal_share(count, std::min(solver_members, bytes / (n * n * static_cast<index_t>(sizeof(double)))));
}

/// Flags of a batch as one row.
inline matrix_view<int, device_space> flag_row(slab_view<int, device_space> flags) {
  return {flags.data, 1, flags.count, 1, flags.batch_stride};
}

/// All matrices of a batch side by side, wherever they lie.
template <class T>
struct slab_element {
  T* data;
  index_t cols, row_stride, col_stride, batch_stride;
  explicit slab_element(slab_view<T, device_space> s)
      : data(s.data), cols(s.cols), row_stride(s.row_stride), col_stride(s.col_stride), batch_stride(s.batch_stride) {}
  /// Element (i, j % cols) of matrix j/cols.
  LORAGA_HD T& operator()(index_t i, index_t j) const {
    return data[i * row_stride + j % cols * col_stride + j / cols * batch_stride];
  }
};

/// Keeps the diagonal of every matrix, and starts an identity beside it.
struct prepare_inverse {
  slab_element<double> s;
  matrix_view<double, device_space> diagonal;  // n x count
  slab_element<double> inverse;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    bool const on_diagonal = i == j % s.cols;
    inverse(i, j) = on_diagonal;
    if (on_diagonal) diagonal(i, j / s.cols) = s(i, j);
  }
};

/// Looks at the pivots of matrix b; info becomes 1 where they, or the factorisation, failed.
struct judge_pivots {
  slab_element<double> r;
  matrix_view<double, device_space> diagonal;
  double relative, absolute;
  matrix_view<int, device_space> info, flags;  // 1 x count
  LORAGA_HD void operator()(index_t, index_t b) const {
    bool good = info(0, b) == 0;
    for (index_t j = 0; good && j < r.cols; ++j) {
      double const pivot = r(j, b * r.cols + j) * r(j, b * r.cols + j);
      good = is_finite(pivot) && pivot > relative * diagonal(j, b) && pivot > absolute;
    }
    info(0, b) = !good;
    if (!good) flags(0, b) |= svd_ill_conditioned;
  }
};

struct accept_inverse {
  slab_element<double> inverse, s;
  matrix_view<int, device_space> info;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const column = j % s.cols;
    double const fallback = i == column;
    s(i, j) = info(0, j / s.cols) != 0 ? fallback : i <= column ? inverse(i, j) : 0.0;
  }
};

/// See the contract's cholesky_inverse_batched.
template <class B>
void cholesky_inverse(B& be, slab_view<double, device_space> s, double relative, double absolute,
                      slab_view<int, device_space> flags, index_t bytes = solver_bytes) {
  index_t const n = s.cols, count = s.count;
  if (n == 0 || count == 0) return;
  if (!by_columns(s[0]) || s.rows != n)
    raise<shape_error>("cuda::cholesky_inverse_batched", "s", shape_text(s.rows, n), "square and column-major");
  if (n * s.col_stride > std::numeric_limits<int>::max())
    raise<shape_error>("cuda::cholesky_inverse_batched", "s", shape_text(s.rows, n), "less than 2^31 elements");
  scratch<B> temporary(be);
  auto const inverse = temporary.template slab<double>(count, n, n);
  auto const diagonal = temporary.template matrix<double>(n, count);
  auto const info = temporary.template matrix<int>(1, count);
  slab_element<double> const in(s), out(inverse);
  be.for_each(n, n * count, prepare_inverse{in, diagonal, out});
  auto const lists = addresses(be, temporary, count, s, inverse);
  auto** const r_list = reinterpret_cast<double**>(lists[0]);
  auto** const x_list = reinterpret_cast<double**>(lists[1]);
  index_t const share = solver_share(n, count, bytes);
  for (index_t first = 0; first < count; first += share)
    check(cusolverDnDpotrfBatched(be.solver(), CUBLAS_FILL_MODE_UPPER, static_cast<int>(n), r_list + first,
                                  static_cast<int>(s.col_stride), info.data + first,
                                  static_cast<int>(std::min(share, count - first))),
          "cusolverDnDpotrfBatched");
  be.for_each(1, count, judge_pivots{in, diagonal, relative, absolute, info, flag_row(flags)});
  double const one = 1;
  for (index_t first = 0; first < count; first += share) {
    product_settings const settings(be.blas_handle(), be.stream());
    check(
        cublasDtrsmBatched_64(be.blas(), CUBLAS_SIDE_LEFT, CUBLAS_FILL_MODE_UPPER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, n,
                              n, &one, r_list + first, s.col_stride, x_list + first, n, std::min(share, count - first)),
        "cublasDtrsmBatched");
  }
  be.for_each(n, n * count, accept_inverse{out, in, info});
}

/// Every matrix to a largest entry between 1 and 2, by a power of two; one that is not finite becomes the identity.
struct normalise_matrix {
  matrix_view<double, device_space> largest, s;  // count x 1; n^2 x count
  index_t n;
  LORAGA_HD static double unit(double largest) { return largest > 0 ? ldexp(1.0, -ilogb(largest)) : 1.0; }
  LORAGA_HD void operator()(index_t e, index_t b) const {
    double const m = largest(b, 0);
    s(e, b) = is_finite(m) ? s(e, b) * unit(m) : double(e % n == e / n);
  }
};

/// From ascending pairs of the scaled matrices to the leading ones of the matrices themselves.
struct descending_values {
  matrix_view<double, device_space> found, largest;  // n x count, count x 1
  slab_element<double> values;
  matrix_view<int, device_space> info, flags;
  LORAGA_HD void operator()(index_t i, index_t b) const {
    double const m = largest(b, 0);
    values(i, b) = found(found.rows - 1 - i, b) / normalise_matrix::unit(is_finite(m) ? m : 1.0);
    if (i == 0 && (!is_finite(m) || info(0, b) != 0)) flags(0, b) |= svd_not_converged;
  }
};
struct leading_vectors {
  slab_element<double> found, s;  // n x n and n x k each
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const b = j / s.cols, from = found.cols - 1 - j % s.cols;
    s(i, j) = found(i, b * found.cols + from);
  }
};

/// What eigenproblems of so many matrices at a time work in.
struct eigen_room {
  slab_view<double, device_space> work;         // n x n each
  matrix_view<double, device_space> found;      // n x count
  matrix_view<double, device_space> largest;    // count x 1
  matrix_view<int, device_space> info;          // 1 x count
  matrix_view<std::byte, device_space> buffer;  // cuSOLVER's own
  std::size_t host_bytes;

  /// For batches of `count`, and for one of `last` at the end.
  template <class B>
  eigen_room(B& be, scratch<B>& temporary, index_t n, index_t count, index_t last)
      : work(temporary.template slab<double>(count, n, n)),
        found(temporary.template matrix<double>(n, count)),
        largest(temporary.template matrix<double>(count, 1)),
        info(temporary.template matrix<int>(1, count)),
        host_bytes(0) {
    std::size_t device_bytes = 0;
    index_t const counts[] = {count, last};
    for (index_t const members : counts) {
      std::size_t device = 0, host = 0;
      check(cusolverDnXsyevBatched_bufferSize(be.solver(), be.solver_parameters(), CUSOLVER_EIG_MODE_VECTOR,
                                              CUBLAS_FILL_MODE_UPPER, n, CUDA_R_64F, work.data, n, CUDA_R_64F,
                                              found.data, CUDA_R_64F, &device, &host, members),
            "cusolverDnXsyevBatched_bufferSize");
      device_bytes = std::max(device_bytes, device);
      host_bytes = std::max(host_bytes, host);
    }
    buffer = temporary.template matrix<std::byte>(static_cast<index_t>(device_bytes), 1);
  }
};

/// eigh for as many matrices as there is room for.
template <class B>
void eigh_share(B& be, eigen_room const& room, slab_view<double, device_space> s, index_t k,
                slab_view<double, device_space> values, slab_view<int, device_space> flags) {
  index_t const n = s.cols, count = s.count;
  auto const flat = matrix_view<double, device_space>(room.work.data, n * n, count, 1, n * n);
  auto const found = room.found.columns(0, count), largest = room.largest.row_range(0, count);
  slab_element<double> const from(s), to(room.work);
  be.for_each(n, n * count, detail::copy<slab_element<double>, slab_element<double>>{from, to});
  be.reduce_columns(n * n, count, detail::max_abs<decltype(flat), decltype(room.largest)>{flat, largest});
  be.for_each(n * n, count, normalise_matrix{largest, flat, n});
  check(cusolverDnXsyevBatched(be.solver(), be.solver_parameters(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_UPPER, n,
                               CUDA_R_64F, room.work.data, n, CUDA_R_64F, found.data, CUDA_R_64F, room.buffer.data,
                               static_cast<std::size_t>(room.buffer.rows), be.host_work(room.host_bytes),
                               room.host_bytes, room.info.data, count),
        "cusolverDnXsyevBatched");
  be.for_each(n, count, descending_values{found, largest, slab_element<double>(values), room.info, flag_row(flags)});
  be.for_each(n, k * count, leading_vectors{to, slab_element<double>(s.columns(0, k))});
}

/// See the contract's eigh_batched. Scratch: `bytes` of matrices at a time, and what cuSOLVER wants for them.
template <class B>
void eigh(B& be, slab_view<double, device_space> s, index_t k, slab_view<double, device_space> values,
          slab_view<int, device_space> flags, index_t bytes = solver_bytes) {
  index_t const n = s.cols, count = s.count;
  if (n == 0 || count == 0) return;
  index_t const share = solver_share(n, count, bytes), left = count % share;
  scratch<B> temporary(be);
  eigen_room const room(be, temporary, n, share, left ? left : share);
  for (index_t first = 0; first < count; first += share) {
    index_t const now = std::min(share, count - first);
    eigh_share(be, room, s.matrices(first, now), k, values.matrices(first, now), flags.matrices(first, now));
  }
}

}  // namespace loraga::gpu
