#pragma once
#include <loraga/adapter/frozen_pair.hpp>
#include <loraga/adapter/inner_type.hpp>
#include <loraga/adapter/low_rank_factors.hpp>

namespace loraga {

/// The base of adapters whose passes are LoRA's with another B or other rows. It has no public pass: so no adapter can
/// be called as another one through its base.
/// A frozen start makes every product one of depth 2r (frozen_pair): H = P*X, y += s*Q*H; G = s*QT*dY, dX += PT*G,
/// whose halves add up to dH. So it costs no matrix of the size of an activation, and is exactly 0 as long as nothing
/// moved. A device, where launches cost, keeps P and Q in the tape for backward, and B beside Q: so G has dH in it.
/// math    forward_through and backward_through are lora's passes, minus the frozen start where there is one
template <Element T, class B>
class lora_passes : public low_rank_factors<T, B> {
  using base = low_rank_factors<T, B>;

 public:
  using typename base::compute;
  using typename base::space;
  using inner = inner_t<B, T>;  ///< of what passes keep between A and B

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    bool keep = false;  ///< let backward go through one pass more than once (the gradients add up)

    matrix<inner, B> h;             ///< A*drop(X), r x (at least tokens); with a frozen pair r more rows
    matrix<T, B> left;              ///< on a device, with a frozen pair: [Q, B], out x 3r
    matrix<T, B> right;             ///< the same: PT, in x 2r
    index_t tokens = 0;             ///< of the pass; -1: the adapter was merged
    bool dropped = false;           ///< whether the pass had dropout
    bool paired = false;            ///< whether the pass subtracted a frozen start
    bool training = true;           ///< whether it was a pass of the training
    bool used = false;              ///< whether backward has gone through it
    void const* adapter = nullptr;  ///< that filled it; no other one may use it
    void const* x = nullptr;        ///< where forward's X lay
    matrix<std::uint64_t, B> pass;  ///< number of the dropout mask, 1x1
  };

  static constexpr record_extra holds = record_extra::none;  ///< of its files, beside A and B

 protected:
  using base::base;

  /// While it lives, passes are those of an evaluation.
  class evaluation_pass {
    bool& training_;
    bool const before_;

   public:
    explicit evaluation_pass(lora_passes& adapter) : training_(adapter.training_), before_(training_) {
      training_ = false;
    }
    ~evaluation_pass() { training_ = before_; }
    evaluation_pass(evaluation_pass const&) = delete;
    evaluation_pass& operator=(evaluation_pass const&) = delete;
  };

  /// What a pass does beside its products: nothing.
  struct nothing {
    void operator()(B&, index_t, index_t) const {}
  };

  /// How many tokens over_tokens takes at a time on a CPU, where `rows` are those of the matrices concerned: what stays
  /// in its caches meanwhile, and blocks enough for many threads. Shapes alone decide.
  static index_t token_block(index_t rows, index_t tokens) {
    constexpr index_t cached = index_t{1} << 18, step = 16;
    index_t const fits = std::max<index_t>(1, cached / rows), shared = (tokens + step - 1) / step;
    return (std::min(fits, shared) + step - 1) / step * step;
  }
  /// task(backend, first, n) for ranges of tokens: blocks on a CPU, each on one thread, and all at once on a GPU.
  template <class F>
  static void over_tokens(B& be, index_t rows, index_t tokens, F const& task) {
    index_t const block = std::max<index_t>(1, token_block(rows, tokens));
    be.for_each_chunk((tokens + block - 1) / block, [&](B& worker, index_t first, index_t n) {
      task(worker, first * block, std::min(n * block, tokens - first * block));
    });
  }

  /// forward with this B: y = beta*y + s*B*A*drop(X), minus the frozen start where there is one; then
  /// after(backend, first, n) for blocks of tokens, while their y is in a CPU's caches. A merged adapter does neither.
  /// `seen` is what backward multiplies dY by beside Q, where the tape keeps that: B unless given.
  template <class F, class X, class Y, class After = nothing>
  void forward_through(B& be, F b, X x, Y y, tape& t, double beta = 1, After const& after = {},
                       matrix_view<T const, space> seen = {}) {
    this->check_activations(x, y, "adapter::forward", "Y");
    this->require_started("adapter::forward");
    begin(be, t, x);
    if (this->merged()) return;
    if (t.dropped) this->dropout_.count(be, t.pass);
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    auto const [left, right] = forward_sides(be, temporary, b, seen.data ? seen : b, t);
    if (t.dropped) inner_of_dropped(be, right, x, h, t);
    else be.gemm(1.0, right, x, 0.0, h);
    double const s = this->scale_;
    if constexpr (std::is_same_v<After, nothing>) {
      be.gemm(s, left, h, beta, y);
    } else {
      over_tokens(be, y.rows, x.cols, [&, wide = left](B& worker, index_t first, index_t n) {
        worker.gemm(s, wide, h.columns(first, n), beta, y.columns(first, n));
        after(worker, first, n);
      });
    }
  }

  /// backward with this B, whose gradient is added to `db`. First before(backend, first, n) for blocks of tokens, which
  /// may be what makes their dY.
  template <class F, class G, class X, class Y, class D, class Before = nothing>
  void backward_through(B& be, F b, G db, X x, Y dy, tape& t, double beta, D dx, Before const& before = {}) {
    check_backward(x, dy, t, dx);
    auto const add_to_b = [&](auto h) { be.gemm(this->scale_, dy, upper(h).transposed(), 1.0, db); };
    backward_with(be, b, add_to_b, x, dy, t, beta, dx, before);
  }
  /// The same where add_to_b(H) is what gives B its gradient. For a tape and shapes that were checked.
  template <class F, class G, class X, class Y, class D, class Before = nothing>
  void backward_with(B& be, F b, G const& add_to_b, X x, Y dy, tape& t, double beta, D dx, Before const& before = {}) {
    double const s = this->scale_;
    scratch<B> temporary(be);
    auto const [left, right] = sides(be, temporary, b, t);
    auto const g = temporary.template matrix<inner>(left.cols, x.cols);
    if constexpr (std::is_same_v<Before, nothing>) {
      be.gemm(s, left.transposed(), dy, 0.0, g);
    } else {
      over_tokens(be, dy.rows, dy.cols, [&, wide = left](B& worker, index_t first, index_t n) {
        before(worker, first, n);
        worker.gemm(s, wide.transposed(), dy.columns(first, n), 0.0, g.columns(first, n));
      });
    }
    add_to_b(t.h.view().columns(0, t.tokens));
    auto const dh = gradient_of_h(be, temporary, g, t);
    auto const add_to_a = [&](auto input) { be.gemm(1.0, dh, input.transposed(), 1.0, this->factors_.da); };
    if (t.dropped) add_to_a(dropped(be, temporary, x, t));
    else add_to_a(x);
    backward_inputs(be, right, g.row_range(0, right.rows), t, beta, dx);
    t.used = true;
  }

  /// dX = beta*dX + rightT*G, A's share of it through the mask. An empty dX is skipped.
  template <class P, class G, class D>
  void backward_inputs(B& be, P right, G g, tape& t, double beta, D dx) {
    if (dx.rows * dx.cols == 0) return;
    if (!t.dropped) return be.gemm(1.0, right.transposed(), g, beta, dx);
    using through_t = std::conditional_t<std::is_same_v<typename D::value_type, inner>, inner, compute>;
    scratch<B> temporary(be);
    auto const through = temporary.template matrix<through_t>(this->in(), g.cols);
    be.gemm(1.0, upper(right).transposed(), upper(g), 0.0, through);
    this->dropout_.apply(be, through, beta, dx, t.pass);
    if (t.paired) be.gemm(1.0, lower(right).transposed(), lower(g), 1.0, dx);
  }

  /// Whether the tape has what backward multiplies by.
  static bool keeps_sides(tape const& t) { return on_device<B> && t.paired; }
  /// What backward multiplies by: this B and A, or with a frozen start both pairs as one. The start sees X without
  /// dropout: then the two are side by side, for each its input. Where the tape keeps them, the left one has `seen`
  /// too.
  template <class F>
  product_sides<T, space> sides(B& be, scratch<B>& temporary, F b, tape const& t) const {
    matrix_view<T const, space> const now = b;
    if (!t.paired) return {now, this->a()};
    if (keeps_sides(t)) return {t.left.view(), read_only(t.right.view().transposed())};
    return frozen_pair<T>(be, temporary, now, this->a(), this->start_b(), this->start_a(), form_of(t));
  }
  /// The rows that belong to A, of what has r rows or 2r; and those that belong to the frozen start.
  template <class V>
  V upper(V v) const {
    return v.row_range(0, this->rank());
  }
  template <class V>
  V lower(V v) const {
    return v.row_range(this->rank(), this->rank());
  }

  template <class X, class Y, class D>
  void check_backward(X const& x, Y const& dy, tape const& t, D const& dx) const {
    char const* const where = "adapter::backward";
    this->check_activations(x, dy, where, "dY");
    if (dx.rows * dx.cols > 0) {
      require_shape(dx, this->in(), x.cols, where, "dX");
      require_matrix(dx, where, "dX");
      require_distinct(dx, dy, where, "dX", "dY");
      require_distinct(dx, x, where, "dX", "X");
    }
    if (this->merged()) raise<state_error>(where, "adapter", "merged", "unmerged in training");
    check_tape(t, x.cols, where);
    if (t.x == static_cast<void const*>(dy.data) && t.x != static_cast<void const*>(x.data) && x.cols > 0)
      raise<state_error>(where, "dY", "what forward was given as X", "X, then dY");
  }
  void check_tape(tape const& t, index_t tokens, char const* where) const {
    auto const refuse = [&](std::string const& found, std::string const& expected) {
      raise<state_error>(where, "tape", found, expected);
    };
    if (!t.adapter) refuse("empty", "one that this adapter's forward filled");
    if (t.adapter != this->lifetime_.identity()) refuse("of another adapter", "one that this adapter's forward filled");
    if (t.tokens != tokens)
      refuse(t.tokens < 0 ? "of a merged pass" : "of " + std::to_string(t.tokens) + " tokens",
             "the one forward filled for these " + std::to_string(tokens));
    if (t.paired != this->paired())
      refuse(t.paired ? "of a pass with a frozen start" : "of a pass without the frozen start",
             "filled by a forward since the last start");
    if (t.training != this->training_)
      refuse(t.training ? "of a training pass" : "of an evaluation pass",
             "of a pass since train(" + std::string(this->training_ ? "true" : "false") + ")");
    if (t.used && !t.keep)
      refuse("used by a backward already", "filled by a new forward; set its `keep` to go back through one pass twice");
  }

  /// W += factor*(s*b*a, minus the frozen start where there is one)
  template <class F, class G, class W>
  void add_product(B& be, F a, G b, W w, double factor) const {
    require_shape(w, this->out(), this->in(), "adapter::add_change", "W");
    require_matrix(w, "adapter::add_change", "W");
    this->require_started("adapter::add_change");
    [[maybe_unused]] auto const precise = be.full_precision();
    if (!this->paired()) return be.gemm(factor * this->scale_, b, a, 1.0, w);
    scratch<B> temporary(be);
    matrix_view<T const, space> const now_a = a, now_b = b;
    auto const [left, right] = frozen_pair<compute>(be, temporary, now_b, now_a, this->start_b(), this->start_a());
    be.gemm(factor * this->scale_, left, right, 1.0, w);
  }

  /// drop(X) as the tape's pass had it.
  template <class X>
  matrix_view<inner, space> dropped(B& be, scratch<B>& temporary, X x, tape const& t) const {
    auto const result = temporary.template matrix<inner>(this->in(), x.cols);
    this->dropout_.apply(be, x, 0.0, result, t.pass);
    return result;
  }

  tape evaluation_;

 private:
  /// The tape is this pass's.
  template <class X>
  void begin(B& be, tape& t, X x) const {
    t.paired = this->paired();
    index_t const rows = t.paired ? 2 * this->rank() : this->rank();
    if (t.h.rows() != rows || t.h.cols() < x.cols) t.h = matrix<inner, B>(be, rows, x.cols);
    t.adapter = this->lifetime_.identity();
    t.x = x.data;
    t.tokens = this->merged() ? -1 : x.cols;
    t.dropped = !this->merged() && this->training_ && this->dropout_.active();
    t.training = this->training_;
    t.used = false;
  }
  static pair_form form_of(tape const& t) { return t.dropped ? pair_form::apart : pair_form::by_difference; }
  /// What forward multiplies by, as `sides`, whose memory it fills.
  template <class F>
  product_sides<T, space> forward_sides(B& be, scratch<B>& temporary, F b, matrix_view<T const, space> seen,
                                        tape& t) const {
    if (!keeps_sides(t)) return sides(be, temporary, b, t);
    auto const make = [&](matrix<T, B>& m, index_t rows, index_t cols) {
      if (m.rows() != rows || m.cols() != cols) m = matrix<T, B>(be, rows, cols);
    };
    index_t const r = this->rank();
    make(t.left, this->out(), 3 * r);
    make(t.right, this->in(), 2 * r);
    matrix_view<T const, space> const now = b;
    stack_pair(be, now, this->a(), this->start_b(), this->start_a(), seen, t.left.view(), t.right.view(), form_of(t));
    return {t.left.view().columns(0, 2 * r), t.right.view().transposed()};
  }
  /// H of a pass with dropout: A*drop(X), and A0*X below.
  template <class P, class X, class H>
  void inner_of_dropped(B& be, P right, X x, H h, tape const& t) const {
    scratch<B> temporary(be);
    be.gemm(1.0, upper(right), dropped(be, temporary, x, t), 0.0, upper(h));
    if (t.paired) be.gemm(1.0, lower(right), x, 0.0, lower(h));
  }
  /// dH = s*BT*dY from G: its last rows where the tape kept B beside Q, else the sum of halves that are differences'.
  template <class G>
  G gradient_of_h(B& be, scratch<B>& temporary, G g, tape const& t) const {
    if (keeps_sides(t)) return g.row_range(2 * this->rank(), this->rank());
    if (!t.paired || t.dropped) return upper(g);
    auto const dh = temporary.template matrix<inner>(this->rank(), g.cols);
    be.for_each(dh.rows, dh.cols, detail::sum_of_halves<G>{g, dh});
    return dh;
  }
};

}  // namespace loraga
