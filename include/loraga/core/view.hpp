#pragma once
#include <algorithm>
#include <concepts>
#include <loraga/core/config.hpp>
#include <loraga/core/error.hpp>
#include <type_traits>
#include <utility>

namespace loraga {

/// "3x4", for messages.
inline std::string shape_text(index_t rows, index_t cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

// Messages and checks below are no templates where they need not be: they would be compiled once per view type.
/// The shape_error of matrix_view::columns and row_range; `what` is columns or rows, of which there are `size`.
[[noreturn, gnu::cold, gnu::noinline]] inline void raise_range(index_t first, index_t n, index_t size,
                                                               char const* where, char const* what) {
  raise<shape_error>(where, "range", std::to_string(first) + "+" + std::to_string(n),
                     "within " + std::to_string(size) + what);
}
/// The shape_error of require_shape.
[[noreturn, gnu::cold, gnu::noinline]] inline void raise_shape(index_t rows, index_t cols, index_t wanted_rows,
                                                               index_t wanted_cols, std::string_view where,
                                                               std::string_view argument) {
  raise<shape_error>(where, argument, shape_text(rows, cols), shape_text(wanted_rows, wanted_cols));
}
/// Whether one of two strides is 1 and no two elements share a place.
inline bool strides_of_matrix(index_t rows, index_t cols, index_t row_stride, index_t col_stride) {
  bool const by_columns = (row_stride == 1 || rows == 1) && (col_stride >= rows || cols == 1);
  bool const by_rows = (col_stride == 1 || cols == 1) && (row_stride >= cols || rows == 1);
  return by_columns || by_rows;
}
/// What require_matrix asks, for any type of element.
/// errors  shape_error
inline void require_strides(bool null, index_t rows, index_t cols, index_t row_stride, index_t col_stride,
                            std::string_view where, std::string_view argument) {
  if (rows < 0 || cols < 0) raise<shape_error>(where, argument, shape_text(rows, cols), "no negative size");
  if (rows == 0 || cols == 0) return;
  if (null) raise<shape_error>(where, argument, "a null pointer", shape_text(rows, cols));
  if (!strides_of_matrix(rows, cols, row_stride, col_stride))
    raise<shape_error>(where, argument,
                       "a view with strides " + std::to_string(row_stride) + ", " + std::to_string(col_stride),
                       "a unit stride along rows or columns and no overlap between them");
}

/// A matrix that someone else owns: element (i, j) is data[i*row_stride + j*col_stride].
/// Transposition and layout are the same thing: two strides, one of them 1. So nothing is ever copied to change either,
/// and no function takes a "transpose" flag.
template <class T, class Space>
struct matrix_view {
  using value_type = std::remove_const_t<T>;
  using space = Space;
  T* data = nullptr;
  index_t rows = 0, cols = 0, row_stride = 1, col_stride = 0;

  matrix_view() = default;
  LORAGA_HD constexpr matrix_view(T* p, index_t r, index_t c, index_t rs, index_t cs)
      : data(p), rows(r), cols(c), row_stride(rs), col_stride(cs) {}
  template <class U>
  requires std::same_as<U const, T> LORAGA_HD constexpr matrix_view(matrix_view<U, Space> o)
      : matrix_view(o.data, o.rows, o.cols, o.row_stride, o.col_stride) {}

  LORAGA_HD constexpr T& operator()(index_t i, index_t j) const { return data[i * row_stride + j * col_stride]; }
  LORAGA_HD constexpr matrix_view transposed() const { return {data, cols, rows, col_stride, row_stride}; }

  /// n columns from `first` on.
  matrix_view columns(index_t first, index_t n) const {
    if (first < 0 || n < 0 || first + n > cols) raise_range(first, n, cols, "matrix_view::columns", " columns");
    return {data + first * col_stride, rows, n, row_stride, col_stride};
  }
  /// n rows from `first` on.
  matrix_view row_range(index_t first, index_t n) const {
    if (first < 0 || n < 0 || first + n > rows) raise_range(first, n, rows, "matrix_view::row_range", " rows");
    return {data + first * row_stride, n, cols, row_stride, col_stride};
  }
};

/// A view whose elements are only read.
template <class T, class Space>
using const_view = matrix_view<T const, Space>;

/// V is a matrix_view of that space, and, for MutableViewIn, one that may be written. Functions take view types through
/// these, so that a mutable view is accepted where a const one would do.
template <class V, class Space>
concept ViewIn = std::same_as<V, matrix_view<std::remove_pointer_t<decltype(V::data)>, Space>>;
template <class V, class Space>
concept MutableViewIn = ViewIn<V, Space> && !std::is_const_v<std::remove_pointer_t<decltype(V::data)>>;

/// A view of a framework's weight: rows contiguous, as PyTorch, llm.c and C arrays store out x in.
template <class Space = host_space, class T>
matrix_view<T, Space> row_major(T* p, index_t rows, index_t cols) {
  return {p, rows, cols, cols, 1};
}
/// A view with contiguous columns, as Eigen, BLAS and Fortran store.
template <class Space = host_space, class T>
matrix_view<T, Space> col_major(T* p, index_t rows, index_t cols) {
  return {p, rows, cols, 1, rows};
}
/// A view of activations. A row-major tokens x features buffer is a column-major features x tokens matrix; no copy.
template <class Space = host_space, class T>
matrix_view<T, Space> activations(T* p, index_t tokens, index_t features) {
  return col_major<Space>(p, features, tokens);
}

/// The same view, through which nothing can be written. Algorithms pass operands on as such, so that code is compiled
/// once for both.
template <class T, class Space>
const_view<std::remove_const_t<T>, Space> read_only(matrix_view<T, Space> v) {
  return {v.data, v.rows, v.cols, v.row_stride, v.col_stride};
}
/// The type of that view.
template <class V>
using read_only_t = decltype(read_only(std::declval<V>()));

/// Throws shape_error unless v is rows x cols.
template <class V>
void require_shape(V const& v, index_t rows, index_t cols, std::string_view where, std::string_view argument) {
  if (v.rows != rows || v.cols != cols) raise_shape(v.rows, v.cols, rows, cols, where, argument);
}

/// Throws shape_error unless products can use v: there is memory behind it, and one of its strides is 1.
template <class V>
void require_matrix(V const& v, std::string_view where, std::string_view argument) {
  require_strides(v.data == nullptr, v.rows, v.cols, v.row_stride, v.col_stride, where, argument);
}

namespace detail {

/// Where a view's elements lie, whatever their type.
struct footprint {
  char const* data;
  index_t rows, cols, row_stride, col_stride, element;

  template <class V>
  static footprint of(V const& v) {
    return {reinterpret_cast<char const*>(v.data), v.rows, v.cols, v.row_stride, v.col_stride,
            static_cast<index_t>(sizeof(*v.data))};
  }
  char const* end() const { return data + ((rows - 1) * row_stride + (cols - 1) * col_stride + 1) * element; }
  footprint transposed() const { return {data, cols, rows, col_stride, row_stride, element}; }
};

inline bool overlap(footprint const& a, footprint const& b) {
  if (a.rows * a.cols == 0 || b.rows * b.cols == 0) return false;
  if (a.end() <= b.data || b.end() <= a.data) return false;
  if (a.element != b.element || a.row_stride != b.row_stride || a.col_stride != b.col_stride) return true;
  if (a.row_stride > a.col_stride) return overlap(a.transposed(), b.transposed());
  // Same leading dimension: where b starts inside a's grid of columns decides.
  index_t const step = (b.data - a.data) / a.element, ld = a.col_stride;
  if (a.row_stride != 1 || ld < a.rows || ld < b.rows) return true;
  auto const meets = [&](index_t row, index_t col) {
    return row < a.rows && row + b.rows > 0 && col < a.cols && col + b.cols > 0;
  };
  index_t const row = (step % ld + ld) % ld, col = (step - row) / ld;
  return meets(row, col) || meets(row - ld, col + 1);
}

inline void require_distinct(footprint const& out, footprint const& in, bool same_allowed, std::string_view where,
                             std::string_view out_name, std::string_view in_name) {
  bool const same = out.data == in.data && out.element == in.element &&
                    (out.rows == 1 || out.row_stride == in.row_stride) &&
                    (out.cols == 1 || out.col_stride == in.col_stride);
  if ((same_allowed && same) || !overlap(out, in)) return;
  raise<alias_error>(where, out_name, "overlapping " + std::string(in_name),
                     same_allowed ? "the same view, or memory of its own" : "memory of its own");
}

}  // namespace detail

/// True when two views share an element. For views with the same strides this is exact: slices of one buffer side by
/// side do not overlap. Otherwise any shared range of addresses counts.
template <class V, class U>
bool overlap(V const& a, U const& b) {
  return detail::overlap(detail::footprint::of(a), detail::footprint::of(b));
}

/// Throws alias_error if an output shares memory with an input, unless they are the same view: elementwise operations
/// may work in place.
template <class V, class U>
void require_same_or_distinct(V const& out, U const& in, std::string_view where, std::string_view out_name,
                              std::string_view in_name) {
  detail::require_distinct(detail::footprint::of(out), detail::footprint::of(in), true, where, out_name, in_name);
}

/// Throws alias_error if an output shares memory with an input.
template <class V, class U>
void require_distinct(V const& out, U const& in, std::string_view where, std::string_view out_name,
                      std::string_view in_name) {
  detail::require_distinct(detail::footprint::of(out), detail::footprint::of(in), false, where, out_name, in_name);
}

}  // namespace loraga
