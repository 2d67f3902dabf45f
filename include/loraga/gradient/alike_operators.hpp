#pragma once
#include <algorithm>
#include <cmath>
#include <loraga/core/factors.hpp>
#include <loraga/gradient/batch_kernels.hpp>
#include <loraga/svd/operators.hpp>

// The micro-batches of many layers, alike in shape, strides and weight: their products go together.

namespace loraga::detail {

/// Whether two views differ in their address alone.
template <class V>
bool alike_views(V const& a, V const& b) {
  return a.rows == b.rows && a.cols == b.cols && a.row_stride == b.row_stride && a.col_stride == b.col_stride;
}
template <class L, class R, class T, class Space>
bool alike(outer_operator<L, R, T, Space> const& a, outer_operator<L, R, T, Space> const& b) {
  return a.weight == b.weight && alike_views(a.left, b.left) && alike_views(a.right, b.right);
}
template <class V, class T, class Space>
bool alike(sum_operator<V, T, Space> const& a, sum_operator<V, T, Space> const& b) {
  return a.weight == b.weight && alike_views(a.a, b.a);
}

/// Views kept as a list that products take.
template <class V, class Space>
class kept_views {
  using E = std::remove_pointer_t<decltype(V::data)>;
  std::vector<matrix_view<E, Space>> views_;

 public:
  using element = std::remove_const_t<E>;
  view_list<E, Space> list;

  kept_views() = default;
  kept_views(kept_views&&) = default;  // no copies: the list points to the views
  kept_views& operator=(kept_views&&) = default;
  void add(V const& v) { views_.push_back(v); }
  template <class B>
  void close(B& be, scratch<B>& temporary) {
    list = prepared(be, temporary, view_list<E, Space>(views_));
  }
  addresses_of_layers<element const> addresses() const {
    return gather_addresses<element const>(views_.size(), [&](std::size_t i) { return views_[i].data; });
  }
};

template <class Op>
class alike_operators;

/// Layers' weight*left*rightT. `flipped` means the transposed.
template <class L, class R, class T, class Space>
class alike_operators<outer_operator<L, R, T, Space>> {
  using V = matrix_view<T, Space>;
  using D = matrix_view<double, Space>;
  using slabs = slab_view<T, Space>;
  kept_views<L, Space> left_;
  kept_views<R, Space> right_;
  double weight_ = 1;
  // what stands between the two products of a first look
  slabs inner_;
  D weights_;
  V total_;

 public:
  template <class B>
  alike_operators(B& be, scratch<B>& temporary, std::vector<outer_operator<L, R, T, Space>> const& ops)
      : weight_(ops[0].weight) {
    for (auto const& op : ops) left_.add(op.left), right_.add(op.right);
    left_.close(be, temporary);
    right_.close(be, temporary);
  }
  /// y = this*x
  template <class B>
  void apply(B& be, bool flipped, slabs x, slabs y) const {
    if (flipped) product(be, right_.list, left_.list, x, y);
    else product(be, left_.list, right_.list, x, y);
  }
  /// See begin_look: `totals` gains a pair of numbers for every layer, which ranks add up.
  template <class B>
  void begin_look(B& be, scratch<B>& temporary, bool flipped, slabs start, index_t known, std::vector<V>& totals) {
    if (flipped) begin(be, temporary, right_, left_, start, known);
    else begin(be, temporary, left_, right_, start, known);
    for (index_t b = 0; b < start.count; ++b) totals.push_back(total_.columns(b, 1));
  }
  /// See end_look.
  template <class B>
  void end_look(B& be, bool flipped, index_t known, slabs y) const {
    index_t const fresh = inner_.cols - known;
    be.for_each(inner_.rows, fresh * inner_.count,
                emphasise_layers<V, D>{inner_.side_by_side(), weights_, total_, inner_.cols, known});
    if (flipped) be.gemm_batched(weight_, right_.list, inner_, 0.0, y);
    else be.gemm_batched(weight_, left_.list, inner_, 0.0, y);
  }

 private:
  template <class B, class Left, class Right>
  void product(B& be, Left const& left, Right const& right, slabs x, slabs y) const {
    scratch<B> temporary(be);
    auto const inner = temporary.template slab<T>(x.count, right.cols, x.cols);
    be.gemm_batched(1.0, right.transposed(), x, 0.0, inner);
    be.gemm_batched(weight_, left, inner, 0.0, y);
  }
  template <class B, class Left, class Right>
  void begin(B& be, scratch<B>& temporary, Left const& left, Right const& right, slabs start, index_t known) {
    index_t const tokens = right.list.cols, layers = start.count;
    inner_ = temporary.template slab<T>(layers, tokens, start.cols);
    weights_ = temporary.template matrix<double>(tokens, layers);
    total_ = temporary.template matrix<T>(2, layers);
    be.gemm_batched(1.0, right.list.transposed(), start, 0.0, inner_);
    if (known == start.cols) return loraga::fill(be, total_, 0);
    auto const one = left.list[0];
    scratch<B> more(be);
    D const parts = more.template matrix<double>((one.rows + 31) / 32, tokens * layers);
    bool const along_tokens = one.row_stride != 1;
    token_parts<typename Left::element, D> const squares{left.addresses(), one.rows, one.row_stride, one.col_stride,
                                                         tokens,           parts,    along_tokens};
    if (along_tokens) be.for_each(tokens, parts.rows * layers, squares);
    else be.for_each(parts.rows, tokens * layers, squares);
    be.for_each(tokens, layers,
                token_weights<V, D>{parts, inner_.side_by_side(), weights_, start.cols, known, weight_});
    auto const each = std::max<index_t>(1, static_cast<index_t>(std::sqrt(static_cast<double>(tokens))));
    D const sums = more.template matrix<double>(2 * ((tokens + each - 1) / each), layers);
    be.for_each(sums.rows / 2, layers, weight_parts<D>{weights_, sums});
    be.for_each(2, layers, weight_totals<D, V>{sums, total_});
  }
};

/// Layers' weight*a. `flipped` means the transposed.
template <class A, class T, class Space>
class alike_operators<sum_operator<A, T, Space>> {
  using V = matrix_view<T, Space>;
  using slabs = slab_view<T, Space>;
  kept_views<A, Space> a_;
  double weight_ = 1;
  slabs start_;

 public:
  template <class B>
  alike_operators(B& be, scratch<B>& temporary, std::vector<sum_operator<A, T, Space>> const& ops)
      : weight_(ops[0].weight) {
    for (auto const& op : ops) a_.add(op.a);
    a_.close(be, temporary);
  }
  /// y = this*x
  template <class B>
  void apply(B& be, bool flipped, slabs x, slabs y) const {
    be.gemm_batched(weight_, flipped ? a_.list.transposed() : a_.list, x, 0.0, y);
  }
  template <class B>
  void begin_look(B&, scratch<B>&, bool, slabs start, index_t, std::vector<V>&) {
    start_ = start;
  }
  template <class B>
  void end_look(B& be, bool flipped, index_t, slabs y) const {
    apply(be, flipped, start_, y);
  }
};

}  // namespace loraga::detail
