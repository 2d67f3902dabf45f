#pragma once
#include <loraga/core/float16.hpp>
#include <loraga/core/view.hpp>

namespace loraga {

/// Memory of A (r x in), B (out x r) and their gradients that someone else owns, such as a framework's tensors. It must
/// outlive the adapter, or `adopt` gives the adapter another one.
/// memory  none of its own
template <class T, class Space>
struct borrowed_factors {
  matrix_view<T, Space> a, b;               ///< A and B
  matrix_view<compute_t<T>, Space> da, db;  ///< their gradients

  /// Throws unless the views fit together, for an adapter of these sizes; the gradients only where it trains A and B.
  /// errors  shape_error; alias_error if two overlap
  void check(index_t out, index_t in, index_t r, bool trained) const {
    char const* const where = "adapter over borrowed memory";
    auto const fits = [&](auto const& v, index_t rows, index_t cols, char const* name) {
      require_shape(v, rows, cols, where, name);
      require_matrix(v, where, name);
    };
    fits(a, r, in, "A");
    fits(b, out, r, "B");
    require_distinct(a, b, where, "A", "B");
    if (!trained) return;
    fits(da, r, in, "dA");
    fits(db, out, r, "dB");
    require_distinct(da, db, where, "dA", "dB");
    require_distinct(da, a, where, "dA", "A");
    require_distinct(db, b, where, "dB", "B");
    require_distinct(da, b, where, "dA", "B");
    require_distinct(db, a, where, "dB", "A");
  }
};

}  // namespace loraga
