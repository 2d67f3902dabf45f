#pragma once
#include <array>
#include <loraga/adapter/dropout.hpp>
#include <string>

namespace loraga {

struct lora_options {
  double dropout = 0;      ///< probability that an input of A is zeroed, in training; the rest is scaled by 1/(1-p)
  std::uint64_t seed = 0;  ///< of the dropout masks, and of random starts where an adapter has one of its own; give
                           ///< layers different ones
};

/// What low-rank adapters have in common: A and B with gradients and, in 16 bit, float master copies; the start they
/// are anchored to; dropout; state. An adapter's further trainable numbers lie behind A and B.
template <Element T, class B>
class low_rank_factors {
 public:
  using value_type = T;
  using space = typename B::space;
  using compute = compute_t<T>;

  index_t out() const { return out_; }
  index_t in() const { return in_; }
  index_t rank() const { return rank_; }
  double scale() const { return scale_; }
  matrix_view<T, space> a() { return a_of(values_.view()); }
  matrix_view<T, space> b() { return b_of(values_.view()); }
  matrix_view<T const, space> a() const { return a_of(values_.view()); }
  matrix_view<T const, space> b() const { return b_of(values_.view()); }

  /// To be called after writing values by hand (a checkpoint): the float master copies of 16-bit values follow.
  void values_changed(B& be) {
    if constexpr (is_16bit<T>) convert(be, trained_values(), masters_.view());
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

  bool merged() const { return merged_.rows() > 0; }

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
      c.optional("start", start_, rank_ * (in_ + out_), 1);
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

  /// Throws state_error where passes would be wrong: W has not been anchored again since a checkpoint was loaded.
  void require_anchored_weight(char const* where) const {
    if (awaits_weight_)
      raise<state_error>(where, "W", "not anchored since a checkpoint was loaded", "anchored: anchor_again(be, W)");
  }

 protected:
  matrix<T, B> values_;                     // A row-major, then B column-major, then what else is trained: one column
  matrix<compute, B> gradients_, masters_;  // the same, or only what lies behind A and B where nothing else is trained
  matrix<T, B> start_, next_start_, merged_;  // A and B alone; merged_ holds all values
  double scale_ = 0;
  bool training_ = true;
  dropout_masks<B> dropout_;

  /// `more` numbers lie behind A and B; without `train_factors` they alone are trained.
  /// errors  value_error if rank < 1, a size is < 1, or dropout is outside [0, 1)
  template <Scaling S>
  low_rank_factors(B& be, index_t out, index_t in, index_t rank, S const& scaling, lora_options options, index_t more,
                   bool train_factors = true)
      : dropout_(be, options.dropout, options.seed), out_(out), in_(in), rank_(rank) {
    index_t const most = index_t{1} << 31;  // so that sizes below do not overflow
    require_value(rank >= 1 && rank <= most, static_cast<double>(rank), "lora", "rank", "at least 1 (and below 2^31)");
    require_value(out <= most && in <= most, static_cast<double>(std::max(out, in)), "lora", "out or in", "below 2^31");
    require_value(out >= 1 && in >= 1, static_cast<double>(std::min(out, in)), "lora", "out or in", "at least 1");
    scale_ = scaling.scale(out, in, rank);
    index_t const size = rank * (in + out) + more;
    values_ = matrix<T, B>(be, size, 1);
    index_t const trained = train_factors ? size : more;
    gradients_ = matrix<compute, B>(be, trained, 1);
    fill(be, values_.view(), 0);
    fill(be, gradients_.view(), 0);
    if constexpr (is_16bit<T>) {
      masters_ = matrix<compute, B>(be, trained, 1);
      fill(be, masters_.view(), 0);
    }
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
    index_t const more = values_.rows() - rank_ * (in_ + out_);
    return flat.row_range(flat.rows - more, more);
  }
  /// The values that gradients_ and masters_ belong to.
  matrix_view<T const, space> trained_values() const {
    return values_.view().row_range(values_.rows() - gradients_.rows(), gradients_.rows());
  }
  std::array<parameter<T, space>, 2> factor_parameters() {
    return {{{"lora_A", parameter_kind::factor_a, a(), a_of(gradients_.view()), a_of(masters_.view())},
             {"lora_B", parameter_kind::factor_b, b(), b_of(gradients_.view()), b_of(masters_.view())}}};
  }

  matrix<T, B> copy_of_values(B& be) const {
    matrix<T, B> kept(be, values_.rows(), 1);
    be.copy(values_.view(), kept.view());
    return kept;
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
  index_t out_, in_, rank_;
  bool subtracted_ = false;
  bool awaits_weight_ = false;  // W was anchored, but not since a checkpoint was loaded
};

}  // namespace loraga
