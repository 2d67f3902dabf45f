#pragma once
#include <loraga/core/view.hpp>
#include <vector>

namespace loraga {

/// `count` equal matrices at a fixed distance: element (i, j) of matrix b is
/// data[b*batch_stride + i*row_stride + j*col_stride]. A batch_stride of 0 shows one matrix `count` times.
template <class T, class Space>
struct slab_view {
  using value_type = std::remove_const_t<T>;
  using space = Space;
  T* data = nullptr;
  index_t count = 0, rows = 0, cols = 0, row_stride = 1, col_stride = 0, batch_stride = 0;

  slab_view() = default;
  slab_view(T* p, index_t n, index_t r, index_t c, index_t rs, index_t cs, index_t bs)
      : data(p), count(n), rows(r), cols(c), row_stride(rs), col_stride(cs), batch_stride(bs) {}
  /// One matrix as a batch of one.
  explicit slab_view(matrix_view<T, Space> v) : slab_view(v.data, 1, v.rows, v.cols, v.row_stride, v.col_stride, 0) {}
  template <class U>
  requires std::same_as<U const, T> slab_view(slab_view<U, Space> o)
      : slab_view(o.data, o.count, o.rows, o.cols, o.row_stride, o.col_stride, o.batch_stride) {}

  matrix_view<T, Space> operator[](index_t b) const {
    return {data + b * batch_stride, rows, cols, row_stride, col_stride};
  }
  slab_view transposed() const { return {data, count, cols, rows, col_stride, row_stride, batch_stride}; }
  /// n columns from `first` on, of every matrix.
  slab_view columns(index_t first, index_t n) const {
    auto const one = (*this)[0].columns(first, n);
    return {one.data, count, rows, n, row_stride, col_stride, batch_stride};
  }
  /// n matrices from `first` on.
  slab_view matrices(index_t first, index_t n) const {
    return {data + first * batch_stride, n, rows, cols, row_stride, col_stride, batch_stride};
  }
  /// All matrices side by side as one rows x (cols*count) matrix: elementwise work on a whole batch is one call.
  /// Needs them back to back, column-major.
  matrix_view<T, Space> side_by_side() const {
    if (count > 1 && (row_stride != 1 || batch_stride != cols * col_stride))
      raise<shape_error>("slab_view::side_by_side", "batch stride", std::to_string(batch_stride),
                         std::to_string(cols * col_stride));
    return {data, rows, cols * count, row_stride, col_stride};
  }
};

/// `count` matrices of one shape anywhere in memory: a framework's weights and gradients, which are not contiguous.
/// Nothing is stacked, because that would copy the model. The list itself is host memory.
template <class T, class Space>
struct view_list {
  using value_type = std::remove_const_t<T>;
  using space = Space;
  matrix_view<T, Space> const* items = nullptr;  ///< one view per matrix, on the host
  index_t count = 0, rows = 0, cols = 0;
  bool flipped = false;  ///< whether every view counts as its transposed
  /// The members' first elements as an array in memory of `Space`, while somebody keeps one there; else null. A GPU's
  /// batched products need one, and make it anew for every product where it is missing.
  T* const* addresses = nullptr;

  view_list() = default;
  view_list(matrix_view<T, Space> const* p, index_t n)
      : items(p), count(n), rows(n ? p[0].rows : 0), cols(n ? p[0].cols : 0) {}
  explicit view_list(std::vector<matrix_view<T, Space>> const& views)
      : view_list(views.data(), static_cast<index_t>(views.size())) {}

  matrix_view<T, Space> operator[](index_t b) const { return flipped ? items[b].transposed() : items[b]; }
  view_list transposed() const {
    auto r = *this;
    std::swap(r.rows, r.cols);
    r.flipped = !flipped;
    return r;
  }
  /// n matrices from `first` on.
  view_list matrices(index_t first, index_t n) const {
    auto r = *this;
    r.items += first;
    r.count = n;
    if (addresses) r.addresses += first;
    return r;
  }
};

/// A batch: anything that yields views of one shape and one space. The batched products take it.
template <class L, class Space>
concept BatchIn = std::same_as<typename L::space, Space> && requires(L const& l, index_t b) {
  { l.count } -> std::convertible_to<index_t>;
  { l.rows } -> std::convertible_to<index_t>;
  { l.cols } -> std::convertible_to<index_t>;
  { l[b] } -> ViewIn<Space>;
};

}  // namespace loraga
