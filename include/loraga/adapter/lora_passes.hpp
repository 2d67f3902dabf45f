#pragma once
#include <loraga/adapter/difference.hpp>
#include <loraga/adapter/low_rank_factors.hpp>

namespace loraga {

/// The base of adapters whose passes are LoRA's with another B or other rows. It has no public pass: so no adapter can
/// be called as another one through its base.
/// math    forward_through and backward_through are lora's passes, minus the frozen start where there is one
template <Element T, class B>
class lora_passes : public low_rank_factors<T, B> {
  using base = low_rank_factors<T, B>;

 public:
  using typename base::compute;
  using typename base::space;

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    bool keep = false;  ///< let backward go through one pass more than once (the gradients add up)

    matrix<compute, B> h;           ///< A*drop(X), r x (at least tokens)
    index_t tokens = 0;             ///< of the pass; -1: the adapter was merged
    bool dropped = false;           ///< whether the pass had dropout
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
  template <class F, class X, class Y, class After = nothing>
  void forward_through(B& be, F b, X x, Y y, tape& t, double beta = 1, After const& after = {}) {
    this->check_activations(x, y, "adapter::forward", "Y");
    this->require_started("adapter::forward");
    index_t const r = this->rank();
    if (t.h.rows() != r || t.h.cols() < x.cols) t.h = matrix<compute, B>(be, r, x.cols);
    t.adapter = this->lifetime_.identity();
    t.x = x.data;
    t.tokens = this->merged() ? -1 : x.cols;
    t.dropped = !this->merged() && this->training_ && this->dropout_.active();
    t.training = this->training_;
    t.used = false;
    if (this->merged()) return;
    if (t.dropped) this->dropout_.count(be, t.pass);
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    if (t.dropped) be.gemm(1.0, this->a(), dropped(be, temporary, x, t), 0.0, h);
    else be.gemm(1.0, this->a(), x, 0.0, h);
    bool const paired = this->paired();
    if (std::is_same_v<After, nothing> && !paired) return be.gemm(this->scale_, b, h, beta, y);
    auto const h0 = paired ? temporary.template matrix<compute>(r, x.cols) : h;
    if (paired) be.gemm(1.0, this->start_a(), x, 0.0, h0);
    over_tokens(be, y.rows, x.cols, [&](B& worker, index_t first, index_t n) {
      auto const now = h.columns(first, n), start = h0.columns(first, n);
      auto const part = y.columns(first, n);
      if (paired) add_product_difference(worker, this->scale_, b, now, this->start_b(), start, beta, part);
      else worker.gemm(this->scale_, b, now, beta, part);
      after(worker, first, n);
    });
  }

  /// backward with this B, whose gradient is added to `db`. First before(backend, first, n) for blocks of tokens, which
  /// may be what makes their dY.
  template <class F, class G, class X, class Y, class D, class Before = nothing>
  void backward_through(B& be, F b, G db, X x, Y dy, tape& t, double beta, D dx, Before const& before = {}) {
    check_backward(x, dy, t, dx);
    double const s = this->scale_;
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    auto const dh = temporary.template matrix<compute>(this->rank(), x.cols);
    constexpr bool by_blocks = !std::is_same_v<Before, nothing>;
    if constexpr (by_blocks) to_rank_by_blocks(be, b, dy, dh, before);
    else be.gemm(s, b.transposed(), dy, 0.0, dh);
    be.gemm(s, dy, h.transposed(), 1.0, db);
    auto const add_to_a = [&](auto input) { be.gemm(1.0, dh, input.transposed(), 1.0, this->factors_.da); };
    if (t.dropped) add_to_a(dropped(be, temporary, x, t));
    else add_to_a(x);
    backward_inputs<by_blocks>(be, dh, dy, t, beta, dx);
    t.used = true;
  }
  /// dh = s*bT*dY, block by block, each after before(backend, first, n).
  template <class F, class Y, class H, class Before>
  void to_rank_by_blocks(B& be, F b, Y dy, H dh, Before const& before) {
    over_tokens(be, dy.rows, dy.cols, [&](B& worker, index_t first, index_t n) {
      before(worker, first, n);
      worker.gemm(this->scale_, b.transposed(), dy.columns(first, n), 0.0, dh.columns(first, n));
    });
  }

  /// dX = beta*dX + AT*dH through the mask, minus the frozen start's share. An empty dX is skipped. ByBlocks: dH was
  /// formed so, and the start's must be, for products of equal numbers to be equal to the last bit.
  template <bool ByBlocks = false, class H, class Y, class D>
  void backward_inputs(B& be, H dh, Y dy, tape& t, double beta, D dx) {
    if (dx.rows * dx.cols == 0) return;
    double const s = this->scale_;
    scratch<B> rest(be);
    auto const at = this->a().transposed();
    auto const a0t = this->start_a().transposed();
    bool const paired = this->paired();
    auto const dh0 = paired ? rest.template matrix<compute>(this->rank(), dy.cols) : dh;
    if (paired && ByBlocks) to_rank_by_blocks(be, this->start_b(), dy, dh0, nothing{});
    else if (paired) be.gemm(s, this->start_b().transposed(), dy, 0.0, dh0);
    if (t.dropped) {
      auto const through = rest.template matrix<compute>(this->in(), dy.cols);
      be.gemm(1.0, at, dh, 0.0, through);
      this->dropout_.apply(be, through, beta, dx, t.pass);
      if (paired) be.gemm(-1.0, a0t, dh0, 1.0, dx);
    } else if (paired) {
      over_tokens(be, dx.rows, dx.cols, [&](B& worker, index_t first, index_t n) {
        add_product_difference(worker, 1.0, at, dh.columns(first, n), a0t, dh0.columns(first, n), beta,
                               dx.columns(first, n));
      });
    } else {
      be.gemm(1.0, at, dh, beta, dx);
    }
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
    scratch<B> temporary(be);  // so that W is rounded once
    auto const change = temporary.template matrix<compute>(this->out(), this->in());
    add_product_difference(be, this->scale_, b, a, this->start_b(), this->start_a(), 0.0, change);
    axpby(be, factor, change, 1.0, w);
  }

  /// drop(X) as the tape's pass had it.
  template <class X>
  matrix_view<compute, space> dropped(B& be, scratch<B>& temporary, X x, tape const& t) const {
    auto const result = temporary.template matrix<compute>(this->in(), x.cols);
    this->dropout_.apply(be, x, 0.0, result, t.pass);
    return result;
  }

  tape evaluation_;
};

}  // namespace loraga
