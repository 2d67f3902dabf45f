#pragma once
#include <functional>

#include "adapter_slot.hpp"
#include "packed_weight.hpp"

namespace model {

/// errors  format_error naming the tensor if it has other sizes
inline void require_weight_shape(loraga::base_weight const& stored, index_t out, index_t in) {
  std::vector<index_t> const shape{out, in};
  if (stored.shape() != shape)
    loraga::raise<loraga::format_error>(stored.label(), "shape", loraga::shape_text(stored.shape()),
                                        loraga::shape_text(shape));
}

/// A linear layer without bias whose W stays packed and is never written, with an adapter beside it and, while a start
/// is measured, something that watches the gradient W would get.
template <class B>
class frozen_linear {
 public:
  using space = typename B::space;
  using view = matrix_view<float, space>;

  packed_weight<B> weight;
  adapter_slot<B> adapter;
  std::function<void(B&, view, view)> watcher;  // takes (dY, X)

  /// errors  format_error where the base's tensor is missing or has another shape
  frozen_linear(B& be, loraga::base_model const& base, std::string const& module, index_t out, index_t in)
      : weight(be, base, module + ".weight") {
    require_weight_shape(weight.stored(), out, in);
  }
  index_t out() const { return weight.out(); }
  index_t in() const { return weight.in(); }
  std::string module() const { return weight.name.substr(0, weight.name.size() - 7); }
  /// W in float, for starts that look at it.
  matrix<float, B> unpacked(B& be) const {
    matrix<float, B> w(be, in(), out());
    weight.rows(be, 0, w.view());
    return w;
  }

  /// y = W*x + the adapter's part, or y += that.
  void forward(B& be, view x, view y, bool accumulate = false) {
    weight.forward(be, x, y, accumulate);
    adapter.forward(be, view{}, x, view{}, y);
  }
  /// Gradients of the adapter; dx = WT*dy + the adapter's share, or dx += that.
  void backward(B& be, view x, view dy, view dx, bool accumulate = false) {
    auto const seen = adapter.backward(be, view{}, x, dy, dx, accumulate ? 1.0 : 0.0);
    weight.backward(be, seen, dx, accumulate || adapter.active());
    if (watcher) watcher(be, dy, x);  // last: it may start the adapter
  }
};

/// A vector of the base in the backend's memory.
/// errors  format_error if it has another length
template <class B>
matrix<float, B> vector_of(B& be, loraga::base_weight const& stored, index_t size) {
  std::vector<index_t> const shape{size};
  if (stored.shape() != shape)
    loraga::raise<loraga::format_error>(stored.label(), "shape", loraga::shape_text(stored.shape()),
                                        loraga::shape_text(shape));
  auto const values = stored.values();
  matrix<float, B> v(be, size, 1);
  be.copy(loraga::col_major(values.data(), size, 1), v.view());
  be.synchronize();
  return v;
}

}  // namespace model
