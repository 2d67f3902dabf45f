#pragma once
#ifndef LORAGA_CPU_COMPILED  // then whoever has a matrix of Eigen's has included it
#include <Eigen/Core>
#endif
#include <loraga/core/view.hpp>

namespace Eigen {
template <class>
class PlainObjectBase;
}

namespace loraga {

/// An Eigen matrix, map or block with direct access, as a view; no copy. Const expressions give const views.
template <class E>
requires requires(E& e) {
  e.data();
  e.innerStride();
  e.outerStride();
}
auto view(E&& e) {
  static_assert(std::is_lvalue_reference_v<E> ||
                    !std::is_base_of_v<Eigen::PlainObjectBase<std::remove_cvref_t<E>>, std::remove_cvref_t<E>>,
                "a view of a temporary matrix would dangle");
  using T = std::remove_pointer_t<decltype(e.data())>;
  index_t const inner = e.innerStride(), outer = e.outerStride();
  constexpr bool by_rows = std::remove_cvref_t<E>::IsRowMajor;
  return matrix_view<T, host_space>(e.data(), e.rows(), e.cols(), by_rows ? outer : inner, by_rows ? inner : outer);
}

}  // namespace loraga
