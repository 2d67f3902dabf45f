#pragma once
#include <array>
#include <loraga/adapter/borrowed_factors.hpp>
#include <loraga/adapter/dropout.hpp>
#include <loraga/core/lifetime.hpp>
#include <loraga/scaling.hpp>
#include <string>

namespace loraga {

/// What every low-rank adapter can be built with.
struct lora_options {
  double dropout = 0;      ///< probability p that an input of A is zeroed in training; the others are scaled by 1/(1-p)
  std::uint64_t seed = 0;  ///< of dropout masks and of this adapter's own random start; give layers different ones
  int dropout_rank = 0;    ///< of a process among those that train this adapter: each draws masks of its own
};

/// The base of low-rank adapters. It holds A and B with their gradients, and float master copies in 16 bit. It also
/// holds the start that they are anchored to, and the dropout. Further trained numbers of an adapter lie behind A and
/// B.
template <Element T, class B>
class low_rank_factors {
 public:
  using value_type = T;
  static constexpr bool in_steps = true;  ///< starting is work in a backend's primitives alone (see in_step)
  using space = typename B::space;
  using compute = compute_t<T>;

  index_t out() const { return out_; }
  index_t in() const { return in_; }
  index_t rank() const { return rank_; }
  double scale() const { return scale_; }
  matrix_view<T, space> a() { return factors_.a; }
  matrix_view<T, space> b() { return factors_.b; }
  matrix_view<T const, space> a() const { return factors_.a; }
  matrix_view<T const, space> b() const { return factors_.b; }
  std::uint64_t seed() const { return dropout_.seed(); }  ///< of lora_options

  /// Takes A, B and their gradients at another place, where a framework has replaced the storage of its tensors. What
  /// is in them counts from now on. Optimisers that were given the old views must be built anew.
  /// errors  state_error for an adapter that owns its memory; shape_error, alias_error
  void adopt(B& be, borrowed_factors<T, space> const& memory) {
    if (!borrowed_)
      raise<state_error>("adapter::adopt", "adapter", "one that owns A and B", "one built over borrowed memory");
    memory.check(out_, in_, rank_, trains_factors_);
    factors_ = memory;
    take_borrowed(be);
  }
  /// All gradients as one column: for all-reduce, clipping, zeroing.
  /// errors  state_error for borrowed memory, which is in several places: see parameters()
  matrix_view<compute, space> gradient() {
    if (borrowed_) raise<state_error>("adapter::gradient", "adapter", "one over borrowed memory", "parameters() of it");
    return gradients_.view();
  }
  void zero_gradient(B& be) {
    if (gradients_.rows() > 0) fill(be, gradients_.view(), 0);
    if (!borrowed_ || !trains_factors_) return;
    fill(be, factors_.da, 0);
    fill(be, factors_.db, 0);
  }
  /// Returns how many numbers are trained.
  index_t trainable() const { return (trains_factors_ ? rank_ * (in_ + out_) : 0) + more_; }

  /// Turns dropout on or off; a new adapter trains.
  void train(bool on) { training_ = on; }
  bool training() const { return training_; }  ///< whether dropout is on
  /// Training passes with dropout so far, which number the masks. Waits for the backend.
  std::uint64_t dropout_passes(B& be) const { return dropout_.passes(be); }
  /// Numbers masks as after so many passes.
  void restart_dropout(B& be, std::uint64_t passes) { dropout_.restart(be, passes); }

  /// A and B were given: by `initialise`, from a file, or by hand and values_changed. Passes refuse to work before
  /// that; a model whose gradient is sampled leaves such adapters out.
  bool started() const { return started_; }
  bool merged() const { return merged_.rows() > 0; }

  // What `initialise` and the anchors call.

  /// Refuses a new start that would lose something.
  /// errors  state_error if merged, or if W holds -s*B0*A0
  void check_start() const {
    if (merged()) raise<state_error>("a new start", "adapter", "merged", "not merged");
    if (subtracted_)
      raise<state_error>("a new start", "adapter", "anchored in place already", "new, or with a frozen pair");
  }
  /// W -= s*b*a, once nothing else can fail. The pair is kept, unused by passes: without it the adapter could never be
  /// saved for the W there was.
  /// errors  shape_error
  template <MutableViewIn<space> W>
  void subtract_start(B& be, W w, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    require_shape(w, out_, in_, "adapter::subtract_start", "W");
    freeze_start(be, a, b);
    auto pair = std::exchange(next_start_, {});  // if the product fails, no later start may find it
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(-scale_, b, a, 1.0, w);
    next_start_ = std::move(pair);
    subtracted_ = true;
  }
  /// Prepares a, b as the frozen pair of the start to come.
  void freeze_start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    matrix<T, B> pair(be, rank_ * (in_ + out_), 1);
    be.copy(a, a_of(pair.view()));
    be.copy(b, b_of(pair.view()));
    next_start_ = std::move(pair);
  }

  /// A0 and B0 of an anchored start; empty views without one. The change of the W there was before is
  /// s*[B, -B0]*[A; A0].
  matrix_view<T const, space> start_a() const { return a_of(start_.view()); }
  matrix_view<T const, space> start_b() const { return b_of(start_.view()); }
  bool anchored_in_place() const { return subtracted_; }             ///< W holds -s*B0*A0
  bool paired() const { return start_.rows() > 0 && !subtracted_; }  ///< passes subtract the start

  /// Throws state_error where passes would be wrong: A and B were never set, or W was not anchored again after a
  /// checkpoint was loaded.
  void require_started(char const* where) const {
    if (!started_)
      raise<state_error>(where, "adapter", "without a start (A = B = 0, which never learns)",
                         "one that `initialise` started; after writing A and B by hand call values_changed");
    if (awaits_weight_)
      raise<state_error>(where, "W", "not anchored since a checkpoint was loaded", "anchored: anchor_again(be, W)");
  }

 protected:
  // A row-major, then B column-major, then what else is trained, in one column; the last alone where A and B are
  // borrowed
  matrix<T, B> values_;
  matrix<compute, B> gradients_;        // the same, or only what lies behind A and B where nothing else is trained
  matrix<compute, B> masters_;          // of what is trained, where values are 16 bit
  borrowed_factors<T, space> factors_;  // A, B and their gradients, whoever owns them
  matrix<T, B> start_, next_start_, merged_;  // A and B alone; merged_ holds all values
  double scale_ = 0;
  bool training_ = true, started_ = false;
  dropout_masks<B> dropout_;
  lifetime lifetime_;

  // What adapters offer as it is, or with what is their own on top.

  /// To be called after A and B were written by hand: the float master copies of 16-bit values follow, and passes know
  /// that there is something to compute with.
  void values_changed(B& be) {
    if constexpr (is_16bit<T>) {
      factor_values_changed(be);
      if (more_ > 0) convert(be, rest_of(values_.view()), rest_of(masters_.view()));
    }
    started_ = true;
  }
  /// A, B become a, b: master copies follow, gradients go, an old frozen pair gives way to the one prepared, if any.
  /// Takes no memory, so that it cannot fail half way.
  void start(B& be, matrix_view<T const, space> a, matrix_view<T const, space> b) {
    be.copy(a, this->a());
    be.copy(b, this->b());
    low_rank_factors::values_changed(be);
    zero_gradient(be);
    start_ = std::exchange(next_start_, {});
  }
  /// For checkpoints; shape and scale must agree, and the start as well where W is anchored to it already.
  /// errors  state_error if merged
  template <class C>
  void visit_state(C& c) {
    if (merged()) raise<state_error>("adapter::visit_state", "adapter", "merged", "not merged");
    c.same("out", out_);
    c.same("in", in_);
    c.same("rank", rank_);
    c.same("scale", scale_);
    if (borrowed_) {
      c("a", factors_.a);
      c("b", factors_.b);
      if (trains_factors_) {
        c("da", factors_.da);
        c("db", factors_.db);
      }
    }
    if (values_.rows() > 0) c("values", values_.view());
    if (gradients_.rows() > 0) c("gradients", gradients_.view());
    if constexpr (is_16bit<T>) c("masters", masters_.view());
    if (subtracted_ && !awaits_weight_) {
      c.same("anchored_in_place", true);
      c.same("start", start_.view());
    } else {
      c.optional("start", start_, rank_ * (in_ + out_), 1);
      c("anchored_in_place", subtracted_);
      awaits_weight_ = subtracted_;
    }
    c("training", training_);
    c("dropout", dropout_);
    if (c.stores()) started_ = true;
  }
  /// Anchors a W that was read anew: W -= s*B0*A0, bit for bit as `initialise` did. An adapter that is anchored in
  /// place refuses to work after a checkpoint was loaded until this is called.
  /// errors  shape_error; state_error if the adapter is not anchored in place, or W is where it should be already
  template <MutableViewIn<space> W>
  void anchor_again(B& be, W w) {
    require_shape(w, out_, in_, "adapter::anchor_again", "W");
    require_matrix(w, "adapter::anchor_again", "W");
    if (!awaits_weight_)
      raise<state_error>("adapter::anchor_again", "W", "not awaited",
                         "awaited: a checkpoint was loaded into a new adapter");
    [[maybe_unused]] auto const precise = be.full_precision();
    be.gemm(-scale_, start_b(), start_a(), 1.0, w);
    awaits_weight_ = false;
  }

  /// `more` numbers lie behind A and B; without `train_factors` they alone are trained.
  /// errors  value_error if rank < 1, a size is < 1, or dropout is outside [0, 1)
  template <Scaling S>
  low_rank_factors(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options, index_t more,
                   bool train_factors = true)
      : low_rank_factors(be, out, in, rank, options, more, train_factors, false) {
    scale_ = scaling.scale(out, in, rank);
    values_ = zeros<T>(be, rank * (in + out) + more);
    gradients_ = zeros<compute>(be, trainable());
    factors_.a = a_of(values_.view());
    factors_.b = b_of(values_.view());
    if (!train_factors) return;
    factors_.da = a_of(gradients_.view());
    factors_.db = b_of(gradients_.view());
  }
  /// The same over borrowed memory, which is taken as it is.
  /// errors  also shape_error if its views do not fit together; alias_error if they overlap
  template <Scaling S>
  low_rank_factors(B& be, borrowed_factors<T, space> const& memory, S const& scaling, lora_options options,
                   index_t more, bool train_factors = true)
      : low_rank_factors(be, memory.b.rows, memory.a.cols, memory.a.rows, options, more, train_factors, true) {
    memory.check(out_, in_, rank_, trains_factors_);
    scale_ = scaling.scale(out_, in_, rank_);
    values_ = zeros<T>(be, more);
    gradients_ = zeros<compute>(be, more);
    factors_ = memory;
    take_borrowed(be);
  }

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
  /// What lies behind A and B, as a column.
  template <class U>
  matrix_view<U, space> rest_of(matrix_view<U, space> flat) const {
    if (flat.rows == 0) return {};
    return flat.row_range(flat.rows - more_, more_);
  }
  matrix_view<T, space> rest() { return rest_of(values_.view()); }
  matrix_view<T const, space> rest() const { return rest_of(values_.view()); }
  /// The master copies of A and B become what A and B are.
  void factor_values_changed(B& be) {
    if (!trains_factors_) return;
    convert(be, factors_.a, a_of(masters_.view()));
    convert(be, factors_.b, b_of(masters_.view()));
  }
  std::array<parameter<T, space>, 2> factor_parameters() {
    auto const alive = lifetime_.watch();
    return {{{"lora_A", parameter_kind::factor_a, a(), factors_.da, a_of(masters_.view()), alive},
             {"lora_B", parameter_kind::factor_b, b(), factors_.db, b_of(masters_.view()), alive}}};
  }
  /// What lies behind A and B, shaped by the caller.
  parameter<T, space> rest_parameter(char const* name, matrix_view<T, space> value,
                                     matrix_view<compute, space> gradient, matrix_view<compute, space> master) {
    return {name, parameter_kind::other, value, gradient, master, lifetime_.watch()};
  }

  /// All values in one column, A and B first: what merge keeps for unmerge.
  /// errors  state_error if merged already
  matrix<T, B> copy_of_values(B& be) const {
    if (merged()) raise<state_error>("adapter::merge", "adapter", "merged", "not merged");
    matrix<T, B> kept(be, rank_ * (in_ + out_) + more_, 1);
    be.copy(a(), a_of(kept.view()));
    be.copy(b(), b_of(kept.view()));
    if (more_ > 0) be.copy(rest(), rest_of(kept.view()));
    return kept;
  }
  /// What copy_of_values gave when W was merged.
  /// errors  state_error if not merged
  matrix_view<T const, space> merged_values() const {
    if (!merged()) raise<state_error>("adapter::unmerge", "adapter", "not merged", "merged");
    return merged_.view();
  }
  template <class X, class Y>
  void check_activations(X const& x, Y const& y, char const* where, char const* name) const {
    require_shape(x, in_, x.cols, where, "X");
    require_shape(y, out_, x.cols, where, name);
    require_matrix(x, where, "X");
    require_matrix(y, where, name);
    require_distinct(y, x, where, name, "X");
  }

 private:
  index_t out_, in_, rank_, more_;
  bool trains_factors_, borrowed_;
  bool subtracted_ = false;
  bool awaits_weight_ = false;  // W was anchored, but not since a checkpoint was loaded

  low_rank_factors(B& be, index_t out, index_t in, index_t rank, lora_options options, index_t more, bool train_factors,
                   bool borrowed)
      : dropout_(be, options.dropout, options.seed, options.dropout_rank),
        out_(out),
        in_(in),
        rank_(rank),
        more_(more),
        trains_factors_(train_factors),
        borrowed_(borrowed) {
    index_t const most = index_t{1} << 31;  // so that sizes below do not overflow
    require_value(rank >= 1 && rank <= most, static_cast<double>(rank), "adapter", "rank",
                  "at least 1 (and below 2^31)");
    require_value(out <= most && in <= most, static_cast<double>(std::max(out, in)), "adapter", "out or in",
                  "below 2^31");
    require_value(out >= 1 && in >= 1, static_cast<double>(std::min(out, in)), "adapter", "out or in", "at least 1");
    if constexpr (is_16bit<T>) masters_ = zeros<compute>(be, trainable());
  }
  /// What lies in borrowed memory is a start, unless it is 0.
  void take_borrowed(B& be) {
    scratch<B> temporary(be);
    auto const sizes = temporary.template matrix<double>(2, 1);
    max_abs(be, factors_.a, sizes.row_range(0, 1));
    max_abs(be, factors_.b, sizes.row_range(1, 1));
    low_rank_factors::values_changed(be);
    auto const found = read_all(be, sizes);
    started_ = found[0] != 0 || found[1] != 0;
  }
  template <class U>
  static matrix<U, B> zeros(B& be, index_t n) {
    matrix<U, B> m(be, n, 1);
    if (n > 0) fill(be, m.view(), 0);
    return m;
  }
};

}  // namespace loraga
