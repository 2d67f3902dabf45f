#pragma once
#include <span>
#include <type_traits>
#include <utility>

namespace loraga {

/// Anything whose elements lie together: what a std::span can be made of. (The standard's own word for it is in
/// <ranges>, which takes every user a fifth of a second to compile.)
template <class R>
concept ContiguousRange = requires(R& r) {
  std::span(r);
};

/// The elements of such a range, read-only.
template <ContiguousRange R>
auto elements_of(R& r) {
  std::span const all(r);
  return std::span<typename decltype(all)::value_type const>(all);
}
/// What its elements are.
template <ContiguousRange R>
using element_of = typename decltype(elements_of(std::declval<R&>()))::value_type;

}  // namespace loraga
