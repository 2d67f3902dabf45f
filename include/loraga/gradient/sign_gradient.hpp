#pragma once
#include <loraga/gradient/dense.hpp>

namespace loraga {

namespace detail {

/// to = the sign of `from`: 1, -1, or 0; NaN and infinity stay what they are.
template <class F, class V>
struct sign_of {
  F from;
  V to;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    T const x = from(i, j);
    to(i, j) = !is_finite(static_cast<double>(x)) ? x : x > 0 ? T{1} : x < 0 ? T{-1} : T{0};
  }
};

}  // namespace detail

/// The direction of AdamW's first step: the sign of the summed gradient, entry by entry. LoRA-SB starts from it. Any
/// start from gradients can, where it should follow full fine-tuning by AdamW.
/// math    sign(G), G as dense_gradient's; AdamW's first step is -rate*G/(|G| + epsilon)
/// errors  as dense_gradient's
/// cost    as dense_gradient's
/// memory  as dense_gradient's; top takes out*in numbers more for every member
template <class B, class T = float>
class sign_gradient {
  dense_gradient<B, T> sum_;

 public:
  using value_type = T;
  using space = typename B::space;
  sign_gradient(B& be, index_t out, index_t in, gradient_options const& = {}) : sum_(be, out, in) {}
  index_t rows() const { return sum_.rows(); }
  index_t cols() const { return sum_.cols(); }
  index_t count() const { return sum_.count(); }
  double weight() const { return sum_.weight(); }
  void reset(B& be) { sum_.reset(be); }
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    sum_.add(be, dw, weight);
  }
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    sum_.add_outer(be, dy, x, weight);
  }
  void merge(B& be, sign_gradient const& other) { sum_.merge(be, other.sum_); }
  /// The gradient whose sign this is, for what takes a dense_gradient.
  dense_gradient<B, T>& gradient() { return sum_; }
  dense_gradient<B, T> const& gradient() const { return sum_; }
  template <class C>
  void visit_state(C& c) {
    sum_.visit_state(c);
  }

  /// to = the sign of the sum.
  /// errors  state_error if there is none yet; shape_error
  void estimate(B& be, matrix_view<T, space> to) const {
    require_seen(count(), "sign_gradient::estimate");
    require_shape(to, rows(), cols(), "sign_gradient::estimate", "to");
    using F = matrix_view<T const, space>;
    using V = matrix_view<T, space>;
    be.for_each(to.rows, to.cols, detail::sign_of<F, V>{sum_.sum(), to});
  }

  /// k leading triplets of the sign of every member's sum; see GradientAccumulator.
  /// errors  state_error if a member is empty, shape_error if shapes differ; numeric faults are flags of the result
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const& svd, std::span<sign_gradient const* const> batch, index_t k) {
    require_readable(batch, "sign_gradient::top");
    std::vector<matrix<T, B>> signs;
    std::vector<matrix_view<T const, space>> views;
    for (auto const* g : batch) {
      auto& to = signs.emplace_back(be, g->rows(), g->cols());
      g->estimate(be, to.view());
      views.push_back(to.view());
    }
    return svd.top(be, view_list(views.data(), static_cast<index_t>(views.size())), k);
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    sign_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }
};

}  // namespace loraga
