#pragma once
#include <loraga/loraga.hpp>
#include <variant>

namespace model {

/// An adapter of a class chosen at run time, so that one model can be trained with any of them.
template <class B>
class any_adapter {
  using space = typename B::space;
  using lora = loraga::lora<float, B>;
  using dora = loraga::dora<float, B>;
  using adalora = loraga::adalora<float, B>;
  using lora_sb = loraga::lora_sb<float, B>;
  template <class A>
  struct hosted {
    A adapter;
    typename A::tape tape = {};
  };
  std::variant<std::monostate, hosted<lora>, hosted<dora>, hosted<adalora>, hosted<lora_sb>> held_;

  /// f(hosted adapter) if there is one.
  template <class F>
  void visit(F const& f) {
    std::visit(
        [&](auto& h) {
          if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(h)>, std::monostate>) f(h);
        },
        held_);
  }

 public:
  explicit operator bool() const { return held_.index() != 0; }
  template <class A, class... Arguments>
  A& emplace(Arguments&&... arguments) {
    return held_.template emplace<hosted<A>>(hosted<A>{A(std::forward<Arguments>(arguments)...)}).adapter;
  }
  template <class A>
  A* get() {
    auto* const h = std::get_if<hosted<A>>(&held_);
    return h ? &h->adapter : nullptr;
  }
  /// f(adapter), whichever class it is of; nothing without one.
  template <class F>
  void with(F const& f) {
    visit([&](auto& h) { f(h.adapter); });
  }

  /// y += the adapter's part. DoRA takes the product W*x that the layer has formed anyway.
  template <class W, class X, class P, class Y>
  void forward(B& be, W w, X x, P product, Y y) {
    visit([&](auto& h) {
      if constexpr (requires { h.adapter.magnitude(); }) h.adapter.forward(be, w, x, product, y, h.tape);
      else h.adapter.forward(be, w, x, y, h.tape);
    });
  }
  bool wants_product() const { return std::holds_alternative<hosted<dora>>(held_); }
  /// dx = the adapter's share; returns the dy that the layer's own backward uses.
  template <class W, class X, class Y, class D>
  loraga::matrix_view<float const, space> backward(B& be, W w, X x, Y dy, D dx) {
    loraga::matrix_view<float const, space> seen = dy;
    visit([&](auto& h) { seen = h.adapter.backward(be, w, x, dy, h.tape, 0.0, dx); });
    return seen;
  }

  std::vector<loraga::parameter<float, space>> parameters() {
    std::vector<loraga::parameter<float, space>> all;
    with([&](auto& ad) {
      for (auto const& p : ad.parameters()) all.push_back(p);
    });
    return all;
  }
  loraga::index_t trainable() {
    loraga::index_t n = 0;
    with([&](auto& ad) { n = ad.gradient().rows; });
    return n;
  }
  void zero_gradient(B& be) {
    with([&](auto& ad) { ad.zero_gradient(be); });
  }
  template <class W>
  void add_change(B& be, W w) {
    with([&](auto& ad) { ad.add_change(be, w); });
  }
};

}  // namespace model
