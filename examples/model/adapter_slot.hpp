#pragma once
#include <loraga/loraga.hpp>
#include <optional>

namespace model {

/// Where a layer keeps its adapter, of whichever class, and what its backward needs from forward; or none.
template <class B>
class adapter_slot {
  using space = typename B::space;
  using any = loraga::any_adapter<float, B>;
  using view = loraga::matrix_view<float const, space>;
  std::optional<any> held_;
  typename any::tape tape_;

 public:
  explicit operator bool() const { return held_.has_value(); }
  /// There is one with something to compute: while gradients are sampled for its start, there is not.
  bool active() const { return held_ && held_->started(); }
  any& operator*() { return *held_; }
  template <class A, class... Arguments>
  A& emplace(Arguments&&... arguments) {
    return *held_.emplace(A(std::forward<Arguments>(arguments)...)).template get<A>();
  }
  template <class A>
  A* get() {
    return held_ ? held_->template get<A>() : nullptr;
  }
  /// f(adapter), as the class it is of; nothing without one.
  template <class F>
  void with(F const& f) {
    if (held_) held_->visit(f);
  }

  /// y += the adapter's part. DoRA takes the product W*x that the layer has formed anyway.
  void forward(B& be, view w, view x, view product, loraga::matrix_view<float, space> y) {
    if (active()) held_->forward(be, w, x, product, y, tape_);
  }
  bool wants_product() const { return held_ && held_->wants_product(); }
  /// dx = beta*dx + the adapter's share; returns the dy that the layer's own backward uses.
  view backward(B& be, view w, view x, view dy, loraga::matrix_view<float, space> dx, double beta = 0) {
    return active() ? held_->backward(be, w, x, dy, tape_, beta, dx) : dy;
  }

  std::vector<loraga::parameter<float, space>> parameters() {
    return held_ ? held_->parameters() : std::vector<loraga::parameter<float, space>>();
  }
  loraga::index_t trainable() const { return held_ ? held_->trainable() : 0; }
  void zero_gradient(B& be) {
    if (held_) held_->zero_gradient(be);
  }
  template <class W>
  void add_change(B& be, W w) {
    if (held_) held_->add_change(be, w);
  }
};

}  // namespace model
