#pragma once
#include <loraga/linalg/elementwise.hpp>
#include <vector>

// Flags that stay on the device until several batches are done: the host then waits once for all of them.

namespace loraga {

/// What SVD methods note about their batches for a later look. A matrix with a flag was not factored: its triplets mean
/// nothing, and a call without `unread_flags` makes them anew.
template <class B>
class unread_flags {
  std::vector<matrix<int, B>> batches_;

 public:
  /// Flags of one more batch, for an attempt to fill.
  slab_view<int, typename B::space> add(B& be, index_t count) {
    batches_.emplace_back(be, 1, count);
    return {batches_.back().view().data, count, 1, 1, 1, 1, 1};
  }
  /// One row for every batch so far.
  std::vector<matrix<int, B>> const& batches() const { return batches_; }
};

namespace detail {

/// A method whose flags are read later: an SvdMethod for those who hand on what it gives.
template <class Svd, class B>
struct unread_svd {
  Svd const& method;
  unread_flags<B>& unread;

  template <class T>
  auto top(B& be, view_list<T, typename B::space> a, index_t k) const {
    return method.top(be, a, k, unread);
  }
};

/// Whether a method can leave its flags unread.
template <class Svd, class B>
concept LeavesUnread = requires(Svd const& svd, B& be, view_list<float const, typename B::space> a, index_t k,
                                unread_flags<B>& unread) {
  svd.top(be, a, k, unread);
};

}  // namespace detail

}  // namespace loraga
