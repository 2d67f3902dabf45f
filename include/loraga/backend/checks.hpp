#pragma once
#include <loraga/core/batch.hpp>

// What every backend refuses, in the same words.

namespace loraga {

/// Throws unless c = a*b can be formed: usable views, shapes that fit, c in memory of its own.
/// errors  shape_error, alias_error
template <class A, class Bv, class C>
void require_product(A const& a, Bv const& b, C const& c, std::string_view where) {
  require_matrix(a, where, "a");
  require_matrix(b, where, "b");
  require_matrix(c, where, "c");
  require_shape(b, a.cols, c.cols, where, "b");
  require_shape(a, c.rows, b.rows, where, "a");
  require_distinct(c, a, where, "c", "a");
  require_distinct(c, b, where, "c", "b");
}

/// Throws shape_error unless a batch has `count` members.
template <class L>
void require_count(L const& l, index_t count, std::string_view where, std::string_view name) {
  if (l.count != count) raise<shape_error>(where, name, std::to_string(l.count) + " matrices", std::to_string(count));
}

/// True when a view's columns are contiguous as BLAS understands it, false when its rows are. A single row or column
/// counts as what its stride allows.
template <class V>
bool by_columns(V const& v) {
  return (v.row_stride == 1 || v.rows == 1) && (v.col_stride >= v.rows || v.cols == 1);
}

/// Distance between columns (or rows, where those are contiguous) for BLAS.
template <class V>
index_t leading_dimension(V const& v) {
  bool const columns = by_columns(v);
  return std::max({columns ? v.col_stride : v.row_stride, columns ? v.rows : v.cols, index_t{1}});
}

}  // namespace loraga
