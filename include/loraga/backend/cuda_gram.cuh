#pragma once
#include <loraga/backend/cuda_products.cuh>
#include <loraga/linalg/elementwise.hpp>

// Gram matrices of batches, in double: numbers that are not are widened, many rows of many members in one launch, and
// one product of the batch adds them up.

namespace loraga::gpu {

/// Where a batch's members begin.
template <class T>
struct slab_members {
  T const* first;
  index_t batch_stride;
  LORAGA_HD T const* operator()(index_t b) const { return first + b * batch_stride; }
};
template <class T>
struct listed_members {
  T const* const* first;  // on the device
  LORAGA_HD T const* operator()(index_t b) const { return first[b]; }
};

/// to(i, j) = element (i, j % cols) of member j/cols, in double.
template <class M>
struct widen_members {
  M member;
  index_t offset, row_stride, col_stride;  // of every member
  index_t cols;
  split_index split;
  matrix_view<double, device_space> to;  // rows x (cols*members)
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const b = split.column(j);
    to(i, j) = as_double(member(b)[offset + i * row_stride + (j - b * cols) * col_stride]);
  }
};

/// A Gram matrix's work: so many members at a time, and so many rows of them.
struct gram_share {
  index_t members, rows;
};
/// What is widened at a time: 256 MB of doubles. Every piece of rows reads and writes s once more, so a piece has at
/// least 1024 rows where there are as many; where those of all members are too much, there are fewer members at a time.
inline constexpr index_t gram_bytes = index_t{256} << 20;
inline gram_share share_gram(index_t count, index_t rows, index_t cols, index_t bytes = gram_bytes) {
  index_t const row = cols * static_cast<index_t>(sizeof(double)), least = std::min<index_t>(rows, 1024);
  index_t const members = equal_share(count, bytes / (row * std::max<index_t>(least, 1)));
  index_t const piece = equal_share(rows, std::max(bytes / (row * members), least));
  return {members, std::min((piece + 63) / 64 * 64, std::max<index_t>(rows, 1))};
}

/// s_b = y_bT*y_b for equal strides, given where the members begin.
template <class B, class V, class M>
void gram_widened(B& be, V const& one, index_t count, M const& member, gram_share share,
                  slab_view<double, device_space> s) {
  bool const by_rows = runs_by_rows(one);
  index_t const rows = one.rows, cols = one.cols;
  scratch<B> temporary(be);
  auto const wide = temporary.template slab<double>(std::min(share.members, count), share.rows, cols);
  for (index_t first = 0; first < rows; first += share.rows) {
    index_t const now = std::min(share.rows, rows - first), offset = first * one.row_stride;
    // Contiguous in the order of y's own elements, so that reads and writes both run along memory.
    auto const part = by_rows ? slab_view<double, device_space>(wide.data, count, now, cols, cols, 1, now * cols)
                              : slab_view<double, device_space>(wide.data, count, now, cols, 1, now, now * cols);
    index_t const fast = by_rows ? cols : now, slow = by_rows ? now : cols;
    widen_members<M> task{member,
                          offset,
                          one.row_stride,
                          one.col_stride,
                          slow,
                          split_index(slow, count),
                          {wide.data, fast, slow * count, 1, fast}};
    if (by_rows) std::swap(task.row_stride, task.col_stride);
    be.for_each(fast, slow * count, task);
    be.gemm_batched(1.0, part.transposed(), part, first == 0 ? 0.0 : 1.0, s);
  }
}

/// s_b = y_bT*y_b, whatever y's type, layout and kind of batch. For checked shapes that are not empty.
template <class B, class Y>
void gram(B& be, Y const& y, slab_view<double, device_space> s, index_t bytes = gram_bytes) {
  using T = typename Y::value_type;
  if constexpr (std::is_same_v<T, double>) {
    be.gemm_batched(1.0, y.transposed(), y, 0.0, s);
  } else if constexpr (!is_slab<Y>) {
    if (y.count == 1 || !uniform(y)) {
      for (index_t b = 0; b < y.count; ++b) gram(be, slab_view(y[b]), s.matrices(b, 1), bytes);
      return;
    }
    gram_share const share = share_gram(y.count, y.rows, y.cols, bytes);
    scratch<B> temporary(be);
    auto const list = reinterpret_cast<T const* const*>(addresses(be, temporary, y.count, y)[0]);
    for (index_t b = 0; b < y.count; b += share.members) {
      index_t const n = std::min(share.members, y.count - b);
      gram_widened(be, y[b], n, listed_members<T>{list + b}, share, s.matrices(b, n));
    }
  } else {
    gram_share const share = share_gram(y.count, y.rows, y.cols, bytes);
    for (index_t b = 0; b < y.count; b += share.members) {
      index_t const n = std::min(share.members, y.count - b);
      gram_widened(be, y[b], n, slab_members<T>{y[b].data, y.batch_stride}, share, s.matrices(b, n));
    }
  }
}

}  // namespace loraga::gpu
