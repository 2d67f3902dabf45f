#pragma once
#include <array>
#include <loraga/adapter/difference.hpp>
#include <loraga/adapter/dropout.hpp>

namespace loraga {

struct lora_options {
  double dropout = 0;      ///< probability that an input of A is zeroed, in training; the rest is scaled by 1/(1-p)
  std::uint64_t seed = 0;  ///< of the dropout masks; give layers different ones
};

/// LoRA: y = W*x + s*B*A*drop(x), W the caller's own. T is how A and B are stored; 16-bit ones have a float master
/// copy, and all products and gradients are float then.
/// shapes  A r x in (row-major), B out x r (column-major)
/// After the first step of a shape nothing is allocated.
/// source  arXiv:2106.09685
template <Element T, class B>
class lora {
 public:
  using value_type = T;
  using space = typename B::space;
  using compute = compute_t<T>;

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
      : out_(out), in_(in), rank_(rank), dropout_(be, options.dropout, options.seed) {
    index_t const most = index_t{1} << 31;  // so that sizes below do not overflow
    require_value(rank >= 1 && rank <= most, static_cast<double>(rank), "lora", "rank", "at least 1 (and below 2^31)");
    require_value(out <= most && in <= most, static_cast<double>(std::max(out, in)), "lora", "out or in", "below 2^31");
    require_value(out >= 1 && in >= 1, static_cast<double>(std::min(out, in)), "lora", "out or in", "at least 1");
    scale_ = scaling.scale(out, in, rank);
    values_ = matrix<T, B>(be, rank * (in + out), 1);
    gradients_ = matrix<compute, B>(be, rank * (in + out), 1);
    fill(be, values_.view(), 0);
    fill(be, gradients_.view(), 0);
    if constexpr (is_16bit<T>) {
      masters_ = matrix<compute, B>(be, rank * (in + out), 1);
      fill(be, masters_.view(), 0);
    }
  }

  index_t out() const { return out_; }
  index_t in() const { return in_; }
  index_t rank() const { return rank_; }
  double scale() const { return scale_; }
  matrix_view<T, space> a() { return a_of(values_.view()); }
  matrix_view<T, space> b() { return b_of(values_.view()); }
  matrix_view<T const, space> a() const { return a_of(values_.view()); }
  matrix_view<T const, space> b() const { return b_of(values_.view()); }

  /// To be called after writing A or B by hand (a checkpoint): the float master copies of 16-bit values follow.
  void values_changed(B& be) {
    if constexpr (is_16bit<T>) convert(be, values_.view(), masters_.view());
  }

  /// A and B with their gradients; addresses stay the same for the adapter's life.
  std::array<parameter<T, space>, 2> parameters() {
    return {{{"lora_A", parameter_kind::factor_a, a(), a_of(gradients_.view()), a_of(masters_.view())},
             {"lora_B", parameter_kind::factor_b, b(), b_of(gradients_.view()), b_of(masters_.view())}}};
  }
  /// All gradients as one column: for all-reduce, clipping, zeroing.
  matrix_view<compute, space> gradient() { return gradients_.view(); }
  void zero_gradient(B& be) { fill(be, gradients_.view(), 0); }

  /// Dropout works in training only, which is how an adapter starts out.
  void train(bool on) { training_ = on; }
  bool training() const { return training_; }
  /// Training passes with dropout so far, which number its masks. Reading waits for the backend.
  std::uint64_t dropout_passes(B& be) const { return dropout_.passes(be); }
  void restart_dropout(B& be, std::uint64_t passes) { dropout_.restart(be, passes); }

  /// Y += s*B*A*drop(X), minus the frozen start where there is one; W is not used (a merged adapter adds nothing).
  /// errors  shape_error, alias_error
  template <ViewIn<space> W, ViewIn<space> X, MutableViewIn<space> Y>
  void forward(B& be, W const&, X x, Y y, tape& t) {
    check_activations(x, y, "lora::forward", "Y");
    require_anchored_weight("lora::forward");
    if (t.h.rows() != rank_ || t.h.cols() < x.cols) t.h = matrix<compute, B>(be, rank_, x.cols);
    t.tokens = merged() ? -1 : x.cols;
    t.dropped = training_ && dropout_.active();
    if (t.dropped) dropout_.count(be, t.pass);
    if (merged()) return;
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    if (t.dropped) be.gemm(1.0, a(), dropped(be, temporary, x, t), 0.0, h);
    else be.gemm(1.0, a(), x, 0.0, h);
    if (!paired()) return be.gemm(scale_, b(), h, 1.0, y);
    auto const h0 = temporary.template matrix<compute>(rank_, x.cols);
    be.gemm(1.0, start_a(), x, 0.0, h0);
    add_product_difference(be, scale_, b(), h, start_b(), h0, 1.0, y);
  }

  /// math    dB += s*dY*HT; dA += dH*drop(X)T with dH = s*BT*dY; dX = beta*dX + AT*dH through the same mask
  /// An empty dX is skipped. Returns dY, which the base's own backward uses unchanged.
  /// errors  shape_error, alias_error; state_error if the tape is from another shape or the adapter is merged
  template <ViewIn<space> W, ViewIn<space> X, ViewIn<space> Y, MutableViewIn<space> D>
  matrix_view<typename Y::value_type const, space> backward(B& be, W const&, X x, Y dy, tape& t, double beta, D dx) {
    char const* const where = "lora::backward";
    check_activations(x, dy, where, "dY");
    bool const wants_dx = dx.rows * dx.cols > 0;
    if (wants_dx) {
      require_shape(dx, in_, x.cols, where, "dX");
      require_matrix(dx, where, "dX");
      require_distinct(dx, dy, where, "dX", "dY");
      require_distinct(dx, x, where, "dX", "X");
    }
    if (t.tokens != x.cols)
      raise<state_error>(where, "tape",
                         t.tokens < 0 ? "of a merged pass" : "of " + std::to_string(t.tokens) + " tokens",
                         "the one forward filled for these " + std::to_string(x.cols));
    if (merged()) raise<state_error>(where, "adapter", "merged", "unmerged in training");
    auto const h = t.h.view().columns(0, t.tokens);
    scratch<B> temporary(be);
    auto const dh = temporary.template matrix<compute>(rank_, x.cols);
    be.gemm(scale_, dy, h.transposed(), 1.0, b_of(gradients_.view()));
    be.gemm(scale_, b().transposed(), dy, 0.0, dh);
    auto const add_to_a = [&](auto input) { be.gemm(1.0, dh, input.transposed(), 1.0, a_of(gradients_.view())); };
    if (t.dropped) add_to_a(dropped(be, temporary, x, t));
    else add_to_a(x);
    if (!wants_dx) return dy;
    scratch<B> rest(be);
    auto const dh0 = paired() ? rest.template matrix<compute>(rank_, x.cols) : dh;
    if (paired()) be.gemm(scale_, start_b().transposed(), dy, 0.0, dh0);
    if (t.dropped) {
      auto const through = rest.template matrix<compute>(in_, x.cols);
      be.gemm(1.0, a().transposed(), dh, 0.0, through);
      dropout_.apply(be, through, beta, dx, t.pass);
      if (paired()) be.gemm(-1.0, start_a().transposed(), dh0, 1.0, dx);
    } else if (paired()) {
      add_product_difference(be, 1.0, a().transposed(), dh, start_a().transposed(), dh0, beta, dx);
    } else {
      be.gemm(1.0, a().transposed(), dh, beta, dx);
    }
    return dy;
  }

  /// W += s*B*A, minus the frozen start where there is one. In 16 bit W does not come back exactly.
  /// errors  shape_error; state_error if merged already
  template <MutableViewIn<space> W>
  void merge(B& be, W w) {
    if (merged()) raise<state_error>("lora::merge", "adapter", "merged", "not merged");
    matrix<T, B> kept(be, values_.rows(), 1);  // first: if memory runs out, W is as it was
    be.copy(values_.view(), kept.view());
    add_change(be, w);
    merged_ = std::move(kept);
  }
  /// W -= what merge added, also if A and B have changed since.  errors  shape_error; state_error if not merged
  template <MutableViewIn<space> W>
  void unmerge(B& be, W w) {
    if (!merged()) raise<state_error>("lora::unmerge", "adapter", "not merged", "merged");
    add_product(be, merged_.view(), w, -1);
    merged_ = {};
  }
  bool merged() const { return merged_.rows() > 0; }

  /// W += factor*(what merge adds), for any W: a copy to evaluate or to export. The adapter stays as it is.
  /// errors  shape_error
  template <MutableViewIn<space> W>
  void add_change(B& be, W w, double factor = 1) const {
    add_product(be, values_.view(), w, factor);
  }

  // What `initialise` and the anchors call.

  /// errors  state_error if merged, or if W already holds -s*B0*A0, which a new start would lose
  void check_start() const {
    if (merged()) raise<state_error>("initialise", "adapter", "merged", "not merged");
    if (subtracted_)
      raise<state_error>("initialise", "adapter", "anchored in place already", "new, or with a frozen pair");
  }
  /// A, B become a, b: master copies follow, gradients go, an old frozen pair gives way to the one prepared, if any.
  /// Takes no memory, so that it cannot fail half way.
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    be.copy(a, this->a());
    be.copy(b, this->b());
    values_changed(be);
    zero_gradient(be);
    start_ = std::exchange(next_start_, {});
  }
  /// W -= s*b*a, in one step at its end. The pair is kept, unused by passes: without it the adapter could never be
  /// saved for the W there was.
  template <MutableViewIn<space> W>
  void subtract_start(B& be, W w, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    require_shape(w, out_, in_, "lora::subtract_start", "W");
    freeze_start(be, a, b);
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(-scale_, b, a, 1.0, w);
    subtracted_ = true;
  }
  /// Prepares a, b as the frozen pair of the start to come.
  void freeze_start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    matrix<T, B> pair(be, rank_ * (in_ + out_), 1);
    be.copy(a, a_of(pair.view()));
    be.copy(b, b_of(pair.view()));
    next_start_ = std::move(pair);
  }

  /// A0 and B0 of an anchored start; empty views without one. [B, -B0]*[A; A0] at the same s is the whole change of
  /// the W there was before.
  matrix_view<T const, space> start_a() const { return a_of(start_.view()); }
  matrix_view<T const, space> start_b() const { return b_of(start_.view()); }
  bool anchored_in_place() const { return subtracted_; }
  bool paired() const { return start_.rows() > 0 && !subtracted_; }  ///< passes subtract the start

  /// For checkpoints; shape and scale must agree, and the start as well where W is anchored to it already.
  /// errors  state_error if merged
  template <class C>
  void visit_state(C& c) {
    if (merged()) raise<state_error>("lora::visit_state", "adapter", "merged", "not merged");
    c.same("out", out_);
    c.same("in", in_);
    c.same("rank", rank_);
    c.same("scale", scale_);
    c("values", values_.view());
    c("gradients", gradients_.view());
    if constexpr (is_16bit<T>) c("masters", masters_.view());
    if (subtracted_ && !awaits_weight_) {
      c.same("anchored_in_place", true);
      c.same("start", start_.view());
    } else {
      c.optional("start", start_, values_.rows(), 1);
      c("anchored_in_place", subtracted_);
      awaits_weight_ = subtracted_;
    }
    c("training", training_);
    c("dropout", dropout_);
  }
  /// Brings a W read anew to where the anchor had brought it: W -= s*B0*A0, bit for bit what `initialise` did. An
  /// adapter anchored in place refuses to work between the loading of a checkpoint and this.
  /// errors  shape_error; state_error if the adapter is not anchored in place, or W is where it should be already
  template <MutableViewIn<space> W>
  void anchor_again(B& be, W w) {
    require_shape(w, out_, in_, "lora::anchor_again", "W");
    require_matrix(w, "lora::anchor_again", "W");
    if (!awaits_weight_)
      raise<state_error>("lora::anchor_again", "W", "not awaited",
                         "awaited: a checkpoint was loaded into a new adapter");
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(-scale_, start_b(), start_a(), 1.0, w);
    awaits_weight_ = false;
  }

 private:
  index_t out_, in_, rank_;
  double scale_ = 0;
  matrix<T, B> values_, start_, next_start_, merged_;  // A row-major, then B column-major, as one column
  matrix<compute, B> gradients_, masters_;             // the same
  bool training_ = true, subtracted_ = false;
  bool awaits_weight_ = false;  // W was anchored, but not since a checkpoint was loaded
  dropout_masks<B> dropout_;

  template <class U>
  matrix_view<U, space> a_of(matrix_view<U, space> flat) const {
    if (flat.rows == 0) return {};
    return {flat.data, rank_, in_, in_, 1};
  }
  template <class U>
  matrix_view<U, space> b_of(matrix_view<U, space> flat) const {
    if (flat.rows == 0) return {};
    return {flat.data + rank_ * in_, out_, rank_, 1, out_};
  }

  /// W += factor*(s*B*A of these values, minus the frozen start where there is one)
  template <class W>
  void add_product(B& be, matrix_view<T const, space> values, W w, double factor) const {
    require_shape(w, out_, in_, "lora::add_change", "W");
    require_matrix(w, "lora::add_change", "W");
    require_anchored_weight("lora::add_change");
    [[maybe_unused]] auto const precise = be.full_precision();
    if (!paired()) return be.gemm(factor * scale_, b_of(values), a_of(values), 1.0, w);
    scratch<B> temporary(be);  // so that W is rounded once
    auto const change = temporary.template matrix<compute>(out_, in_);
    add_product_difference(be, scale_, b_of(values), a_of(values), start_b(), start_a(), 0.0, change);
    axpby(be, factor, change, 1.0, w);
  }

  void require_anchored_weight(char const* where) const {
    if (awaits_weight_)
      raise<state_error>(where, "W", "not anchored since a checkpoint was loaded", "anchored: anchor_again(be, W)");
  }
  template <class X, class Y>
  void check_activations(X const& x, Y const& y, char const* where, char const* name) const {
    require_shape(x, in_, x.cols, where, "X");
    require_shape(y, out_, x.cols, where, name);
    require_matrix(x, where, "X");
    require_matrix(y, where, name);
    require_distinct(y, x, where, name, "X");
  }

  template <class X>
  matrix_view<compute, space> dropped(B& be, scratch<B>& temporary, X x, tape const& t) const {
    auto const out = temporary.template matrix<compute>(in_, x.cols);
    dropout_.apply(be, x, 0.0, out, t.pass);
    return out;
  }
};

}  // namespace loraga
