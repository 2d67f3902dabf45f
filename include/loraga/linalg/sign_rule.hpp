#pragma once
#include <loraga/linalg/elementwise.hpp>

namespace loraga {

namespace detail {

/// The entry of largest magnitude of each column of u, the first one on a tie; d_j = its sign.
template <class U, class D>
struct column_sign {
  struct value_type {
    double magnitude, value;
    index_t row;
  };
  U u;
  D d;
  LORAGA_HD static value_type identity() { return {-1, 0, 0}; }
  LORAGA_HD value_type map(index_t i, index_t j) const {
    double const x = static_cast<double>(u(i, j));
    return {x < 0 ? -x : x, x, i};
  }
  LORAGA_HD static value_type combine(value_type a, value_type b) {
    return b.magnitude > a.magnitude || (b.magnitude == a.magnitude && b.row < a.row) ? b : a;
  }
  LORAGA_HD void finish(index_t j, value_type peak) const {
    d(j, 0) = static_cast<typename D::value_type>(peak.value < 0 ? -1 : 1);
  }
};

}  // namespace detail

/// The library's one sign rule. Where the entry of largest magnitude in a column of u is negative (the first such
/// entry, on a tie), that column of u and of v is negated. LoRA-GA's product B*A depends on signs, because its columns
/// of u and v come from different triplets.
template <Backend B, class T>
void apply_sign_rule(B& be, matrix_view<T, typename B::space> u, matrix_view<T, typename B::space> v) {
  scratch<B> temporary(be);
  using V = matrix_view<T, typename B::space>;
  V const sign = temporary.template matrix<T>(u.cols, 1);
  be.reduce_columns(u.rows, u.cols, detail::column_sign<V, V>{u, sign});
  scale_columns(be, sign, u);
  scale_columns(be, sign, v);
}

}  // namespace loraga
