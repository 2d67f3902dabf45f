#pragma once
#include <loraga/gradient/incremental.hpp>
#include <loraga/svd/gram.hpp>

namespace loraga {

/// A second pass over a sample that refines what a first one found: the mean gradient within the inputs' directions V
/// of an incremental estimate, exactly.
/// math    Y = sum weight*dY*(XT*V); G*V*VT = Y*VT/weight, whose triplets are those of Y, with V turned along. Truncation
///         errors of the first pass are gone; what is left is what lies outside span(V)
/// cost    per add_outer 2*width*(out + in)*tokens operations, a third or less of the incremental update's; `top` is an
///         SVD of out x width
/// memory  width*(out + in) numbers
template <class B, class T = float>
class projected_gradient {
  matrix<T, B> v_, sum_;  // in x width, out x width
  double weight_ = 0;
  index_t count_ = 0;

 public:
  using value_type = T;
  using space = typename B::space;

  /// errors  state_error if the first pass saw nothing, or met NaN or infinity
  projected_gradient(B& be, incremental_gradient<B, T> const& first)
      : v_(be, first.cols(), first.width()), sum_(be, first.rows(), first.width()) {
    require_seen(first.count(), "projected_gradient");
    if (!first.usable())
      raise<state_error>("projected_gradient", "first pass", "flagged: not finite, or not factored",
                         "a usable estimate");
    be.copy(first.state().v, v_.view());
    reset(be);
  }
  index_t rows() const { return sum_.rows(); }
  index_t cols() const { return v_.rows(); }
  index_t width() const { return v_.cols(); }  ///< directions that the mean is looked at in
  /// How many triplets `top` can give.
  index_t most_triplets() const { return width(); }
  index_t count() const { return count_; }
  double weight() const { return weight_; }

  /// Forgets the second pass; V stays.
  void reset(B& be) {
    fill(be, sum_.view(), 0);
    weight_ = 0;
    count_ = 0;
  }

  /// dW = dY*XT of one micro-batch.
  /// shapes  dY out x tokens, X in x tokens
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    require_shape(dy, rows(), x.cols, "projected_gradient::add_outer", "dY");
    require_shape(x, cols(), dy.cols, "projected_gradient::add_outer", "X");
    require_weight(weight, "projected_gradient::add_outer");
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    auto const along = temporary.template matrix<T>(x.cols, width());
    be.gemm(1.0, x.transposed(), v_.view(), 0.0, along);
    be.gemm(weight, dy, along, 1.0, sum_.view());
    weight_ += weight;
    ++count_;
  }
  /// dW (out x in) of one micro-batch, where the caller has formed it.
  /// errors  as add_outer
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    require_shape(dw, rows(), cols(), "projected_gradient::add", "dW");
    require_weight(weight, "projected_gradient::add");
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(weight, dw, v_.view(), 1.0, sum_.view());
    weight_ += weight;
    ++count_;
  }
  /// Everything `other` saw, in the same directions.
  /// errors  shape_error; value_error if it was made from another first pass. Waits for the backend
  void merge(B& be, projected_gradient const& other) {
    require_shape(other.sum_.view(), rows(), width(), "projected_gradient::merge", "other");
    require_shape(other.v_.view(), cols(), width(), "projected_gradient::merge", "other");
    scratch<B> temporary(be);
    auto const apart = temporary.template matrix<T>(cols(), width());
    auto const largest = temporary.template matrix<double>(1, 1);
    be.copy(v_.view(), apart);
    axpby(be, -1.0, other.v_.view(), 1.0, apart);
    max_abs(be, apart, largest);
    if (read_scalar(be, largest) != 0)
      raise<value_error>("projected_gradient::merge", "other", "in other directions",
                         "one made from the same first pass");
    axpby(be, 1.0, other.sum_.view(), 1.0, sum_.view());
    weight_ += other.weight_;
    count_ += other.count_;
  }

  /// to = the mean within the directions.
  /// errors  state_error if there is none yet; shape_error
  void estimate(B& be, matrix_view<T, space> to) const {
    require_seen(count_, "projected_gradient::estimate");
    require_shape(to, rows(), cols(), "projected_gradient::estimate", "to");
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(1 / weight_, sum_.view(), v_.view().transposed(), 0.0, to);
  }

  /// k leading triplets of every member's mean within its directions. The SVD is of a thin matrix and always the exact
  /// one, so `svd` is not used.
  /// errors  state_error if a member is empty; shape_error if k exceeds a member's width; numeric faults are flags
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const&, std::span<projected_gradient const* const> batch, index_t k) {
    require_readable(batch, "projected_gradient::top");
    svd_result<T, B> result(be, static_cast<index_t>(batch.size()), batch.empty() ? 0 : batch[0]->rows(),
                            batch.empty() ? 0 : batch[0]->cols(), k);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      auto const& g = *batch[i];
      if (k < 1 || k > g.width())
        raise<shape_error>("projected_gradient::top", "k", std::to_string(k),
                           "1.." + std::to_string(g.width()) + ", the width of its first pass");
      matrix_view<T const, space> const one[] = {g.sum_.view()};
      auto const thin = gram{}.top(be, view_list<T const, space>(one, 1), k);
      auto const to = result[static_cast<index_t>(i)];
      be.copy(thin[0].u, to.u);
      axpby(be, 1 / g.weight_, thin[0].s, 0.0, to.s);
      [[maybe_unused]] auto const precise = be.full_precision();
      be.gemm(1.0, g.v_.view(), thin[0].v, 0.0, to.v);
      result.flags[i] = thin.flags[0];
      result.energy[i] = thin.energy[0] / (g.weight_ * g.weight_);
    }
    apply_sign_rule(be, result.u.view().side_by_side(), result.v.view().side_by_side());
    return result;
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    projected_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }

  template <class C>
  void visit_state(C& c) {
    c("directions", v_.view());
    c("sum", sum_.view());
    c("weight", weight_);
    c("count", count_);
  }
};

}  // namespace loraga
