#pragma once
#include <loraga/adapter/lora_passes.hpp>
#include <loraga/adapter/rescaled_rows.hpp>
#include <loraga/adapter/row_norms.hpp>

namespace loraga {

/// DoRA: LoRA whose rows are rescaled to a trained magnitude g. The first pass after a start, or prepare, measures g
/// and the norms of W. From then on W must not change but by this adapter's own anchor and merge. 16-bit adapters
/// compute with the float master copy of g.
/// math    y = (g/N)*(W*x + s*B*A*x), plus the bias; N = row norms of W + s*B*A, constants for the gradient; g begins as
///         N, so that the start is LoRA's; with dropout, as in PEFT:
///         y = W*x + (g/N - 1)*W*drop(x) + (g/N)*s*B*A*drop(x)
/// shapes  as lora; magnitude out x 1
/// errors  as lora
/// cost    beside lora: row_norms (on a device rescaling_of) per pass, and one more product W*X unless the caller hands in the one it has
/// memory  beside lora: one out x tokens matrix per tape; two if the tape is kept, or with dropout
/// source  arXiv:2402.09353
template <Element T, class B>
class dora : public lora_passes<T, B> {
  using base = lora_passes<T, B>;

 public:
  using typename base::compute;
  using typename base::inner;
  using typename base::space;

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    bool keep = false;             ///< let backward go through one pass more than once (the gradients add up)
    typename base::tape low_rank;  ///< LoRA's
    matrix<inner, B>
        rows;  ///< W*X + s*B*A*X, on a device W*X; later the dY that backward returns: out x (at least tokens)
    matrix<inner, B> dy;     ///< that dY where rows are needed once more, or backward has returned them untouched
    bool rows_gone = false;  ///< whether backward has written over rows
  };

  /// errors  as lora
  template <Scaling S>
  dora(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options = {})
      : base(be, out, in, rank, scaling, options, out), squares_(be, out, 1), norm_(be, out, 1), ratio_(be, out, 1) {}
  template <Scaling S>
  dora(B& be, borrowed_factors<T, space> const& memory, S const& scaling, lora_options options = {})
      : base(be, memory, scaling, options, memory.b.rows),
        squares_(be, memory.b.rows, 1),
        norm_(be, memory.b.rows, 1),
        ratio_(be, memory.b.rows, 1) {}

  std::array<parameter<T, space>, 3> parameters() {
    auto const [a, b] = this->factor_parameters();
    return {a, b,
            this->rest_parameter("lora_magnitude_vector", magnitude(), this->rest_of(this->gradients_.view()),
                                 this->rest_of(this->masters_.view()))};
  }
  /// g as it is stored; it means something once `prepared`.
  matrix_view<T, space> magnitude() { return this->rest(); }
  matrix_view<T const, space> magnitude() const { return this->rest(); }
  /// g as passes use it: the float master copy of a 16-bit adapter's.
  matrix_view<compute const, space> full_magnitude() const {
    if constexpr (is_16bit<T>) return this->rest_of(this->masters_.view());
    else return magnitude();
  }
  bool prepared() const { return has_magnitude_; }  ///< whether g was set since the start

  /// Measures the norms of W, and sets g = N after a new start. The first pass does so itself. A step that is captured,
  /// or a magnitude that is saved before the first pass, needs this call.
  /// errors  shape_error
  template <ViewIn<space> W>
  void prepare(B& be, W w) {
    check_weight(w, "dora::prepare");
    this->require_started("dora::prepare");
    if (!knows_weight_) row_squares(be, w, squares_.view());
    knows_weight_ = true;
    if (has_magnitude_) return;
    measure<T>(be, w, squares_.view(), norm_.view());
    if constexpr (is_16bit<T>) convert(be, norm_.view(), this->rest_of(this->masters_.view()));
    convert(be, norm_.view(), magnitude());
    has_magnitude_ = true;
  }
  /// Sets a given g, from a file, instead of measuring it.
  /// errors  shape_error
  void set_magnitude(B& be, matrix_view<compute const, space> g) {
    require_shape(g, this->out(), 1, "dora::set_magnitude", "g");
    if constexpr (is_16bit<T>) convert(be, g, this->rest_of(this->masters_.view()));
    convert(be, g, magnitude());
    has_magnitude_ = true;
  }

  /// To be called after A or B was written by hand. g has set_magnitude.
  void values_changed(B& be) {
    if constexpr (is_16bit<T>) this->factor_values_changed(be);
    this->started_ = true;
  }
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    base::start(be, a, b);
    has_magnitude_ = knows_weight_ = false;
  }
  template <MutableViewIn<space> W>
  void anchor_again(B& be, W w) {
    base::anchor_again(be, w);
    knows_weight_ = false;
  }
  template <class C>
  void visit_state(C& c) {
    base::visit_state(c);
    c("has_magnitude", has_magnitude_);
    if (c.stores()) knows_weight_ = false;
  }

  static constexpr record_extra holds = record_extra::magnitude;
  /// errors  state_error if the magnitude is not set yet
  template <class R>
  void write_record(B&, R& record) const {
    if (!has_magnitude_)
      raise<state_error>("dora::write_record", "magnitude", "not set since the start", "set by a pass or by prepare");
    record.a(this->a());
    record.b(this->b());
    record.magnitude(full_magnitude());
  }
  template <class R>
  void read_record(B& be, R const& record) {
    start(be, record.a(), record.b());
    if (record.has_magnitude()) set_magnitude(be, record.magnitude());
  }

  /// Adds the adapter's part to Y, which holds W*X and what else the caller adds.
  /// errors  shape_error, alias_error; state_error for an adapter without a start
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W w, X x, Y y, tape& t) {
    forward(be, w, x, matrix_view<compute const, space>{}, y, t);
  }
  /// The same for evaluation, without dropout and without a tape.
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W w, X x, Y y) {
    typename base::evaluation_pass const pass(*this);
    forward(be, w, x, y, evaluation_);
  }
  /// The same where the caller has W*X alone at hand, out x tokens. It may be Y itself, if nothing else is in it: that
  /// is the fastest way. A pass with dropout makes its own W*drop(X).
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> P, MutableViewIn<space> Y>
  void forward(B& be, W w, X x, P product, Y y, tape& t) {
    check_weight(w, "dora::forward");
    this->check_activations(x, y, "dora::forward", "Y");
    bool const given = product.data != nullptr;
    if (given) {
      require_shape(product, this->out(), x.cols, "dora::forward", "W*X");
      require_matrix(product, "dora::forward", "W*X");
      require_same_or_distinct(y, product, "dora::forward", "Y", "W*X");
    }
    reserve(be, t.rows, x.cols);
    t.rows_gone = false;
    if (this->merged())  // adds nothing
      return this->forward_through(be, this->b(), x, t.rows.view().columns(0, x.cols), t.low_rank);
    prepare(be, w);
    if constexpr (on_device<B>) forward_at_once(be, w, x, product, y, t);
    else forward_by_blocks(be, w, x, product, y, t);
  }

  /// math    D = (g/N)*dY; dg += sum over tokens of dY*(W + s*B*A)*X/N; dB, dA, dX as lora's with D in dY's place
  /// returns  what the base's weight and input see, until the tape's next forward: D, or dY after a pass with dropout,
  ///         where dX has the rest already; bias gradients see dY
  /// errors  as lora's; state_error also if a backward that did not keep the tape has been through it
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D = matrix_view<compute, space>>
  [[nodiscard]] matrix_view<inner const, space> backward(B& be, W w, X x, Y dy, tape& t, double beta = 0, D dx = {}) {
    check_weight(w, "dora::backward");
    t.low_rank.keep = t.keep;
    this->check_backward(x, dy, t.low_rank, dx);
    if (t.rows_gone)
      raise<state_error>("dora::backward", "tape", "used by a backward that did not keep it",
                         "filled by a new forward; set its `keep` before the first of two backwards");
    bool const dropped = t.low_rank.dropped;
    if (t.keep || dropped) reserve(be, t.dy, x.cols);
    t.rows_gone = !t.keep && !dropped;
    auto const u = t.rows.view().columns(0, x.cols);
    auto const returned = t.rows_gone ? u : t.dy.view().columns(0, x.cols);
    scratch<B> temporary(be);
    auto const scaled = dropped ? temporary.template matrix<inner>(this->out(), x.cols) : returned;
    if constexpr (on_device<B>) backward_at_once(be, x, dy, u, scaled, t, beta, dx);
    else backward_by_blocks(be, x, dy, u, scaled, t, beta, dx);
    if (!dropped) return returned;
    convert(be, dy, returned);
    if (dx.rows * dx.cols == 0) return returned;
    using V = decltype(ratio_.view());
    be.for_each(this->out(), x.cols, detail::scaled_rows<V, Y, rows_view>{ratio_.view(), dy, scaled, 1});
    auto const through = temporary.template matrix<inner>(this->in(), x.cols);
    be.gemm(1.0, w.transposed(), scaled, 0.0, through);
    this->dropout_.apply(be, through, 1.0, dx, t.low_rank.pass);
    return returned;
  }

  /// W <- (g/N)*(W + s*B*A), minus the frozen start where there is one.
  /// errors  shape_error; state_error if merged already, or if a magnitude is 0, from which no W would come back
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    if (this->merged()) raise<state_error>("dora::merge", "adapter", "merged", "not merged");
    prepare(be, w);
    matrix<compute, B> ratio(be, this->out(), 1);
    auto kept = this->copy_of_values(be);
    auto const change = ratio_to_merge(be, w, ratio.view());
    for (auto const x : read_all(be, ratio.view()))
      if (!(is_finite(static_cast<double>(x)) && x != compute(0)))
        raise<state_error>("dora::merge", "magnitude", "0 or not finite in a row",
                           "other numbers, so that W can come back");
    apply(be, change.view(), ratio.view(), w, 1);
    this->merged_ = std::move(kept);
    merged_ratio_ = std::move(ratio);
  }
  /// Takes back what merge did. In 16 bit W does not come back exactly.
  /// errors  shape_error; state_error if not merged
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    if (!this->merged()) raise<state_error>("dora::unmerge", "adapter", "not merged", "merged");
    check_weight(w, "dora::unmerge");
    auto const kept = this->merged_values();
    auto const change = product(be, this->a_of(kept), this->b_of(kept));
    auto const ratio = merged_ratio_.view();
    auto const d = change.view();
    be.for_each(this->out(), this->in(), detail::restore_weight<decltype(ratio), decltype(d), W>{ratio, d, w});
    this->merged_ = {};
    knows_weight_ = false;  // in 16 bit W does not come back exactly
  }
  /// W += factor*(what merge changes), for the base's W or a copy of it. The adapter stays as it is.
  /// errors  shape_error; state_error if the magnitude is not set yet
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    check_weight(w, "dora::add_change");
    if (!has_magnitude_)
      raise<state_error>("dora::add_change", "magnitude", "not set since the start", "set by a pass or by prepare");
    matrix<compute, B> ratio(be, this->out(), 1);
    auto const change = ratio_to_merge(be, w, ratio.view());
    apply(be, change.view(), ratio.view(), w, factor);
  }

 private:
  using rows_view = matrix_view<inner, space>;

  matrix<double, B> squares_;        // ||W_j||^2
  matrix<compute, B> norm_, ratio_;  // N and g/N of the last pass
  matrix<compute, B> merged_ratio_;
  tape evaluation_;
  bool has_magnitude_ = false, knows_weight_ = false;

  /// Makes room for out x (at least tokens).
  void reserve(B& be, matrix<inner, B>& m, index_t tokens) const {
    if (m.rows() != this->out() || m.cols() < tokens) m = matrix<inner, B>(be, this->out(), tokens);
  }
  /// A pass on a CPU, whose sweeps go along with products.
  template <class W, class X, class P, class Y>
  void forward_by_blocks(B& be, W w, X x, P product, Y y, tape& t) {
    measure<T>(be, w, squares_.view(), norm_.view());
    set_ratio(be, norm_.view(), ratio_.view());
    if (this->training_ && this->dropout_.active()) return forward_dropped(be, w, x, y, t);
    if (product.data != nullptr) return forward_beside(be, x, product, y, t);
    scratch<B> temporary(be);
    auto const wx = temporary.template matrix<inner>(this->out(), x.cols);
    be.gemm(1.0, w, x, 0.0, wx);
    forward_beside(be, x, wx, y, t);
  }
  /// A pass without dropout, where W*X is at hand.
  template <class X, class P, class Y>
  void forward_beside(B& be, X x, P product, Y y, tape& t) {
    auto const u = t.rows.view().columns(0, x.cols);
    this->forward_through(be, this->b(), x, u, t.low_rank, 0.0, [&](B& worker, index_t first, index_t n) {
      rescale_rows(worker, ratio_.view(), u.columns(first, n), product.columns(first, n), y.columns(first, n));
    });
  }
  /// A pass with dropout, whose W*drop(X) nobody has.
  template <class W, class X, class Y>
  void forward_dropped(B& be, W w, X x, Y y, tape& t) {
    auto const u = t.rows.view().columns(0, x.cols);
    this->forward_through(be, this->b(), x, u, t.low_rank, 0.0);
    scratch<B> temporary(be);
    auto const wx = temporary.template matrix<inner>(this->out(), x.cols);
    be.gemm(1.0, w, this->dropped(be, temporary, x, t.low_rank), 0.0, wx);
    rescale_rows(be, ratio_.view(), u, wx, y);
  }
  /// A pass on a device, of all tokens: W*X is kept, if nobody has it made, and v = s*B*A*drop(X) only added.
  template <class W, class X, class P, class Y>
  void forward_at_once(B& be, W w, X x, P product, Y y, tape& t) {
    scratch<B> temporary(be);
    auto const v = temporary.template matrix<inner>(this->out(), x.cols);
    this->forward_through(be, this->b(), x, v, t.low_rank, 0.0);
    auto const [left, right] = this->sides(be, temporary, this->b(), t.low_rank);
    rescaling_of(be, w, matrix_view<double const, space>(squares_.view()), this->scale_, left, right, norm_.view(),
                 full_magnitude(), ratio_.view());
    auto const kept = t.rows.view().columns(0, x.cols);
    if (product.data != nullptr && !t.low_rank.dropped) return rescale_product(be, ratio_.view(), v, product, kept, y);
    if (t.low_rank.dropped) be.gemm(1.0, w, this->dropped(be, temporary, x, t.low_rank), 0.0, kept);
    else be.gemm(1.0, w, x, 0.0, kept);
    rescale_product(be, ratio_.view(), v, kept, kept, y);
  }
  /// Gradients on a CPU: D, dg's sums and dH block by block.
  template <class X, class Y, class D>
  void backward_by_blocks(B& be, X x, Y dy, rows_view u, rows_view scaled, tape& t, double beta, D dx) {
    scratch<B> temporary(be);
    index_t const block = base::token_block(this->out(), x.cols);
    auto const sums = temporary.template matrix<compute>(this->out(), std::max<index_t>(1, (x.cols + 15) / 16));
    fill(be, sums, 0);
    auto const ratio = ratio_.view(), n = norm_.view();
    using V = decltype(ratio_.view());
    this->backward_through(be, this->b(), this->factors_.db, x, scaled, t.low_rank, beta, dx,
                           [&](B& worker, index_t first, index_t count) {
                             rescale_gradient(worker, ratio, dy.columns(first, count), u.columns(first, count),
                                              scaled.columns(first, count), sums.columns(first / block, 1));
                           });
    fold_columns(be, sums);
    auto const dg = this->rest_of(this->gradients_.view());
    be.for_each(this->out(), 1, detail::magnitude_gradient<V, V, V>{sums, n, dg});
  }
  /// Gradients on a device. dY*HT gives dB, and what v adds to dg.
  template <class X, class Y, class D>
  void backward_at_once(B& be, X x, Y dy, rows_view wx, rows_view scaled, tape& t, double beta, D dx) {
    scratch<B> temporary(be);
    auto const part = temporary.template matrix<double>(this->out(), gradient_runs(x.cols));
    auto const ratio = ratio_.view(), n = norm_.view();
    rescale_gradient_by_runs(be, ratio, dy, wx, scaled, part);
    auto const [left, right] = this->sides(be, temporary, this->b(), t.low_rank);
    auto const dg = this->rest_of(this->gradients_.view()), db = this->factors_.db;
    auto const gradients = [&, side = left](auto h) {
      auto const d = temporary.template matrix<compute>(this->out(), h.rows);
      be.gemm(this->scale_, dy, h.transposed(), 0.0, d);
      using F = decltype(side);
      using V = decltype(ratio);
      be.for_each(this->out(), this->rank() + 1,
                  detail::gradients_of_rows<decltype(part), F, V, V, V, V>{part, side, d, ratio, n, dg, db});
    };
    this->backward_with(be, this->b(), gradients, x, scaled, t.low_rank, beta, dx);
  }
  template <class W>
  void check_weight(W const& w, char const* where) const {
    require_shape(w, this->out(), this->in(), where, "W");
    require_matrix(w, where, "W");
  }
  /// N for A and B as they are; on a device a frozen pair is stacked in S.
  template <Element S, class W>
  void measure(B& be, W w, matrix_view<double const, space> squares, matrix_view<compute, space> norm) const {
    using view = matrix_view<T const, space>;
    bool const pair = this->paired();
    double const s = this->scale_;
    view const a = this->a(), b = this->b();
    if constexpr (on_device<B>) {
      if (!pair) return rescaling_of(be, w, squares, s, b, a, norm);
      scratch<B> temporary(be);
      auto const [left, right] = frozen_pair<S>(be, temporary, b, a, this->start_b(), this->start_a());
      rescaling_of(be, w, squares, s, left, right, norm);
    } else {
      row_norms(be, w, squares, s, a, b, pair ? this->start_a() : view{}, pair ? this->start_b() : view{}, norm);
    }
  }
  void set_ratio(B& be, matrix_view<compute, space> norm, matrix_view<compute, space> ratio) const {
    auto const g = full_magnitude();
    be.for_each(this->out(), 1, detail::magnitude_ratio<decltype(g), decltype(norm)>{g, norm, ratio});
  }
  template <class F, class G>
  matrix<compute, B> product(B& be, F a, G b) const {
    matrix<compute, B> change(be, this->out(), this->in());
    fill(be, change.view(), 0);
    this->add_product(be, a, b, change.view(), 1);
    return change;
  }
  /// s*B*A (minus the start), and g/N for this W.
  template <class W>
  matrix<compute, B> ratio_to_merge(B& be, W w, matrix_view<compute, space> ratio) const {
    auto change = product(be, this->a(), this->b());
    scratch<B> temporary(be);
    auto const squares = temporary.template matrix<double>(this->out(), 1);
    auto const norm = temporary.template matrix<compute>(this->out(), 1);
    row_squares(be, w, squares);
    measure<compute>(be, w, squares, norm);
    set_ratio(be, norm, ratio);
    return change;
  }
  template <class D, class R, class W>
  void apply(B& be, D change, R ratio, W w, double factor) const {
    be.for_each(this->out(), this->in(), detail::rescale_weight<R, D, W>{ratio, change, w, factor});
  }
};

}  // namespace loraga
