#pragma once
#include <loraga/adapter/lora.hpp>
#include <loraga/linalg/scatter.hpp>

namespace loraga {

/// What an embedding's passes check.
struct embedding_options {
  /// Passes refuse ids outside the vocabulary, and wait for the backend to do so. Turn it off to capture a step in a
  /// graph. Unknown ids then give NaN in Y and in dB, and nothing is read or written outside.
  bool check_ids = true;
};

/// LoRA for an embedding, which picks columns of A. It is a lora with passes of its own. Initialisers, anchors,
/// optimisers, merge and checkpoints find the lora at `adapter()`. As in PEFT there is no dropout. There is no dX, and
/// no tape, because backward reads A again.
/// math    y(:, t) = W(:, id_t) + s*B*A(:, id_t)
/// shapes  W dim x vocabulary (the transposed view of PyTorch's weight), A r x vocabulary, B dim x r; ids 1 x tokens
/// cost    per pass products of 2*dim*r*tokens operations; backward also sorts the ids
/// source  arXiv:2106.09685 and huggingface/peft
template <Element T, class B>
class embedding {
 public:
  using value_type = T;
  using space = typename B::space;
  using compute = compute_t<T>;
  using inner = inner_t<B, T>;

  /// errors  as lora
  template <Scaling S>
  embedding(B& be, index_t dim, index_t vocabulary, index_t rank, S const& scaling, embedding_options options = {})
      : adapter_(be, dim, vocabulary, rank, scaling), options_(options) {}
  /// Around an adapter that is there, such as one over borrowed memory; its dropout is not used.
  explicit embedding(lora<T, B> adapter, embedding_options options = {})
      : adapter_(std::move(adapter)), options_(options) {}
  lora<T, B>& adapter() { return adapter_; }
  lora<T, B> const& adapter() const { return adapter_; }

  /// Adds s*B*A(:, ids) to Y, which holds the base's columns, minus the frozen start where there is one.
  /// shapes  Y dim x tokens
  /// errors  shape_error, alias_error; value_error for an id outside the vocabulary; state_error without a start
  template <IdsIn<space> I, MutableViewIn<space> Y>
  void forward(B& be, I ids, Y y) {
    check(be, ids, y, "embedding::forward", "Y");
    require_distinct(y, ids, "embedding::forward", "Y", "ids");
    adapter_.require_started("embedding::forward");
    if (adapter_.merged()) return;
    scratch<B> temporary(be);
    auto const& ad = std::as_const(adapter_);
    auto const h = picked(be, temporary, ad.a(), ids);
    if (!ad.paired()) return be.gemm(ad.scale(), ad.b(), h, 1.0, y);
    // columns of A stand for A: what the pair multiplies is picked before it is formed
    auto const h0 = picked(be, temporary, ad.start_a(), ids);
    auto const [left, right] = frozen_pair<T>(be, temporary, ad.b(), read_only(h), ad.start_b(), read_only(h0));
    be.gemm(ad.scale(), left, right, 1.0, y);
  }

  /// Adds the gradients of A and B.
  /// math    dB += s*dY*A(:, ids)T; dA(:, id) += the sum of s*BT*dY over the tokens of each id, in their order
  /// errors  shape_error; value_error for an id outside the vocabulary; state_error if merged
  template <IdsIn<space> I, ViewIn<space> Y>
  void backward(B& be, I ids, Y dy) {
    check(be, ids, dy, "embedding::backward", "dY");
    if (adapter_.merged()) raise<state_error>("embedding::backward", "adapter", "merged", "unmerged in training");
    auto const [a, b] = adapter_.parameters();
    scratch<B> temporary(be);
    auto const h = picked(be, temporary, std::as_const(adapter_).a(), ids);
    auto const dh = temporary.template matrix<compute>(h.rows, h.cols);
    be.gemm(adapter_.scale(), dy, h.transposed(), 1.0, b.gradient);
    be.gemm(adapter_.scale(), b.value.transposed(), dy, 0.0, dh);
    add_columns(be, dh, ids, a.gradient);
  }

  /// Adds the gradient of W of one micro-batch to an accumulator: LoRA-GA for an embedding.
  /// math    dW = dY*onehot(ids)T
  /// shapes  the accumulator dim x vocabulary
  /// errors  shape_error, value_error for an id outside the vocabulary, and what the accumulator's add refuses, which is
  ///         then as it was
  /// cost    two passes over one gradient
  /// memory  one gradient during the call
  template <GradientAccumulator<B> G, ViewIn<space> Y, IdsIn<space> I>
  void add_gradient(B& be, G& gradient, Y dy, I ids, double weight = 1) const {
    char const* const where = "embedding::add_gradient";
    check(be, ids, dy, where, "dY");
    if (gradient.rows() != adapter_.out() || gradient.cols() != adapter_.in())
      raise<shape_error>(where, "gradient", shape_text(gradient.rows(), gradient.cols()),
                         shape_text(adapter_.out(), adapter_.in()));
    matrix<typename G::value_type, B> dw(be, adapter_.out(), adapter_.in());  // given back, unlike scratch: it is large
    fill(be, dw.view(), 0);
    add_columns(be, dy, ids, dw.view());
    gradient.add(be, std::as_const(dw).view(), weight);
  }

 private:
  lora<T, B> adapter_;
  embedding_options options_;

  template <class I, class Y>
  void check(B& be, I const& ids, Y const& y, char const* where, char const* name) const {
    require_shape(ids, 1, ids.cols, where, "ids");
    require_shape(y, adapter_.out(), ids.cols, where, name);
    require_matrix(ids, where, "ids");
    require_matrix(y, where, name);
    if (options_.check_ids) require_ids(be, ids, adapter_.in(), where);
  }

  template <class A, class I>
  static matrix_view<inner, space> picked(B& be, scratch<B>& temporary, A a, I ids) {
    auto const h = temporary.template matrix<inner>(a.rows, ids.cols);
    gather_columns(be, a, ids, h);
    return h;
  }
};

}  // namespace loraga
