#pragma once
#include <loraga/adapter/difference.hpp>
#include <loraga/adapter/low_rank_factors.hpp>

namespace loraga {

/// LoRA: y = W*x + s*B*A*drop(x), W the caller's own. T is how A and B are stored; 16-bit ones have a float master
/// copy, and all products and gradients are float then.
/// shapes  A r x in (row-major), B out x r (column-major)
/// After the first step of a shape nothing is allocated.
/// source  arXiv:2106.09685
template <Element T, class B>
class lora : public low_rank_factors<T, B> {
  using base = low_rank_factors<T, B>;

 public:
  using base::in;
  using base::merged;
  using base::out;
  using base::paired;
  using base::rank;
  using typename base::compute;
  using typename base::space;

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    matrix<compute, B> h;  // A*drop(X), r x (at least tokens)
    index_t tokens = 0;
    bool dropped = false;
    matrix<std::uint64_t, B> pass;  // number of the dropout mask, 1x1
  };

  /// A = B = 0: does nothing until it is initialised.
  /// errors  value_error if rank < 1, a size is < 1, or dropout is outside [0, 1)
  template <Scaling S>
  lora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : lora(be, out, in, rank, scaling, options, 0) {}

  /// A and B with their gradients; addresses stay the same for the adapter's life.
  std::array<parameter<T, space>, 2> parameters() { return this->factor_parameters(); }

  /// Y += s*B*A*drop(X), minus the frozen start where there is one; W is not used (a merged adapter adds nothing).
  /// errors  shape_error, alias_error
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const&, X x, Y y, tape& t) {
    forward_through(be, this->b(), x, y, t);
  }

  /// math    dB += s*dY*HT; dA += dH*drop(X)T with dH = s*BT*dY; dX = beta*dX + AT*dH through the same mask
  /// An empty dX is skipped. Returns dY, which the base's own backward uses unchanged.
  /// errors  shape_error, alias_error; state_error if the tape is from another shape or the adapter is merged
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D>
  matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t, double beta, D dx) {
    backward_through(be, this->b(), this->b_of(this->gradients_.view()), x, dy, t, beta, dx);
    return dy;
  }

  /// W += s*B*A, minus the frozen start where there is one. In 16 bit W does not come back exactly.
  /// errors  shape_error; state_error if merged already
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    if (merged()) raise<state_error>("lora::merge", "adapter", "merged", "not merged");
    auto kept = this->copy_of_values(be);  // first: if memory runs out, W is as it was
    add_change(be, w);
    this->merged_ = std::move(kept);
  }
  /// W -= what merge added, also if A and B have changed since.  errors  shape_error; state_error if not merged
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    if (!merged()) raise<state_error>("lora::unmerge", "adapter", "not merged", "merged");
    auto const kept = this->merged_.view();
    add_product(be, this->a_of(kept), this->b_of(kept), w, -1);
    this->merged_ = {};
  }
  /// W += factor*(what merge adds), for any W: a copy to evaluate or to export. The adapter stays as it is.
  /// errors  shape_error
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    add_product(be, this->a(), this->b(), w, factor);
  }

 protected:
  template <Scaling S>
  lora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options, index_t more,
       bool train_factors = true)
      : base(be, out, in, rank, scaling, options, more, train_factors) {}

  /// forward with this B.
  template <class F, class X, class Y>
  void forward_through(B& be, F b, X x, Y y, tape& t) {
    this->check_activations(x, y, "lora::forward", "Y");
    this->require_anchored_weight("lora::forward");
    index_t const r = rank();
    if (t.h.rows() != r || t.h.cols() < x.cols) t.h = matrix<compute, B>(be, r, x.cols);
    t.tokens = merged() ? -1 : x.cols;
    t.dropped = !merged() && this->training_ && this->dropout_.active();
    if (merged()) return;
    if (t.dropped) this->dropout_.count(be, t.pass);
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    if (t.dropped) be.gemm(1.0, this->a(), dropped(be, temporary, x, t), 0.0, h);
    else be.gemm(1.0, this->a(), x, 0.0, h);
    if (!paired()) return be.gemm(this->scale_, b, h, 1.0, y);
    auto const h0 = temporary.template matrix<compute>(r, x.cols);
    be.gemm(1.0, this->start_a(), x, 0.0, h0);
    add_product_difference(be, this->scale_, b, h, this->start_b(), h0, 1.0, y);
  }

  /// backward with this B, whose gradient is added to `db`.
  template <class F, class G, class X, class Y, class D>
  void backward_through(B& be, F b, G db, X x, Y dy, tape& t, double beta, D dx) {
    check_backward(x, dy, t, dx);
    double const s = this->scale_;
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    auto const dh = temporary.template matrix<compute>(rank(), x.cols);
    be.gemm(s, dy, h.transposed(), 1.0, db);
    be.gemm(s, b.transposed(), dy, 0.0, dh);
    auto const da = this->a_of(this->gradients_.view());
    auto const add_to_a = [&](auto input) { be.gemm(1.0, dh, input.transposed(), 1.0, da); };
    if (t.dropped) add_to_a(dropped(be, temporary, x, t));
    else add_to_a(x);
    backward_inputs(be, dh, dy, t, beta, dx);
  }

  /// dX = beta*dX + AT*dH through the mask, minus the frozen start's share. An empty dX is skipped.
  template <class H, class Y, class D>
  void backward_inputs(B& be, H dh, Y dy, tape& t, double beta, D dx) {
    if (dx.rows * dx.cols == 0) return;
    double const s = this->scale_;
    scratch<B> rest(be);
    auto const at = this->a().transposed();
    auto const a0t = this->start_a().transposed();
    auto const dh0 = paired() ? rest.template matrix<compute>(rank(), dy.cols) : dh;
    if (paired()) be.gemm(s, this->start_b().transposed(), dy, 0.0, dh0);
    if (t.dropped) {
      auto const through = rest.template matrix<compute>(in(), dy.cols);
      be.gemm(1.0, at, dh, 0.0, through);
      this->dropout_.apply(be, through, beta, dx, t.pass);
      if (paired()) be.gemm(-1.0, a0t, dh0, 1.0, dx);
    } else if (paired()) {
      add_product_difference(be, 1.0, at, dh, a0t, dh0, beta, dx);
    } else {
      be.gemm(1.0, at, dh, beta, dx);
    }
  }

  template <class X, class Y, class D>
  void check_backward(X const& x, Y const& dy, tape const& t, D const& dx) const {
    char const* const where = "lora::backward";
    this->check_activations(x, dy, where, "dY");
    if (dx.rows * dx.cols > 0) {
      require_shape(dx, in(), x.cols, where, "dX");
      require_matrix(dx, where, "dX");
      require_distinct(dx, dy, where, "dX", "dY");
      require_distinct(dx, x, where, "dX", "X");
    }
    if (t.tokens != x.cols)
      raise<state_error>(where, "tape",
                         t.tokens < 0 ? "of a merged pass" : "of " + std::to_string(t.tokens) + " tokens",
                         "the one forward filled for these " + std::to_string(x.cols));
    if (merged()) raise<state_error>(where, "adapter", "merged", "unmerged in training");
  }

  /// W += factor*(s*b*a, minus the frozen start where there is one)
  template <class F, class G, class W>
  void add_product(B& be, F a, G b, W w, double factor) const {
    require_shape(w, out(), in(), "lora::add_change", "W");
    require_matrix(w, "lora::add_change", "W");
    this->require_anchored_weight("lora::add_change");
    [[maybe_unused]] auto const precise = be.full_precision();
    if (!paired()) return be.gemm(factor * this->scale_, b, a, 1.0, w);
    scratch<B> temporary(be);  // so that W is rounded once
    auto const change = temporary.template matrix<compute>(out(), in());
    add_product_difference(be, this->scale_, b, a, this->start_b(), this->start_a(), 0.0, change);
    axpby(be, factor, change, 1.0, w);
  }

  /// drop(X) as the tape's pass had it.
  template <class X>
  matrix_view<compute, space> dropped(B& be, scratch<B>& temporary, X x, tape const& t) const {
    auto const result = temporary.template matrix<compute>(in(), x.cols);
    this->dropout_.apply(be, x, 0.0, result, t.pass);
    return result;
  }
};

}  // namespace loraga
