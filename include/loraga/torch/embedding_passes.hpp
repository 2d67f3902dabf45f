#pragma once
#include <loraga/adapter/embedding.hpp>
#include <loraga/gradient/dense.hpp>
#include <loraga/torch/view.hpp>

namespace loraga::libtorch::detail {

/// An embedding's passes on tensors. X are ids (Long or Int) of any shape.
template <Element T, class B, Element U>
class embedding_passes {
  using space = typename B::space;
  static constexpr char const* where = "lora_embedding";
  embedding<T, B> layer_;
  std::optional<index_t> padding_;  // this id learns nothing, as in torch

  static auto ids_of(at::Tensor const& ids) {
    require_tensor<space>(ids, at::kLong, where, "ids");
    return const_view<std::int64_t, space>(static_cast<std::int64_t const*>(ids.data_ptr()), 1, ids.numel(), 1, 1);
  }
  static auto tokens(at::Tensor const& t, char const* name) { return flattened<U, space>(t, where, name); }

 public:
  /// Nothing of a pass is kept but what forward saw.
  struct tape {
    bool keep = false;
  };
  using element = T;
  using backend = B;
  using base_element = U;

  embedding_passes(lora<T, B> adapter, std::optional<index_t> padding)
      : layer_(std::move(adapter)), padding_(padding) {}
  /// What initialisers, anchors, merge and files work on.
  lora<T, B>& adapter() { return layer_.adapter(); }
  lora<T, B> const& adapter() const { return layer_.adapter(); }

  static at::Tensor input(at::Tensor const& ids) { return ids.to(at::kLong).contiguous(); }
  static at::Tensor output(at::Tensor const& y, char const* name) {
    return viewable(y, [&](auto const& t) { return tokens(t, name); });
  }
  /// y += s*B*A(:, ids)
  void forward(B& be, at::Tensor const& ids, at::Tensor const& y, tape&) {
    layer_.forward(be, ids_of(ids), tokens(y, "Y"));
  }
  /// Adds the gradients of A and B; ids have none.
  at::Tensor backward(B& be, at::Tensor const& ids, at::Tensor const& dy, tape&, bool) {
    layer_.backward(be, ids_of(ids), read_only(tokens(dy, "dY")));
    if (padding_) {
      auto const all = adapter().parameters();
      fill(be, all[0].gradient.columns(*padding_, 1), 0);
    }
    return {};
  }
  /// dW of one micro-batch, formed here (dim x vocabulary).
  template <class Sink>
  void add_gradient(B& be, Sink& sink, at::Tensor const& ids, at::Tensor const& dy) const {
    dense_gradient<B, compute_t<U>> dw(be, adapter().out(), adapter().in());
    auto const counted = padding_ ? dy.masked_fill(ids.eq(*padding_).unsqueeze(-1), 0) : dy;
    layer_.add_gradient(be, dw, read_only(tokens(counted, "dY")), ids_of(ids));
    sink.add(be, dw.sum());
  }
};

}  // namespace loraga::libtorch::detail
