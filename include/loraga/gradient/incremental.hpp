#pragma once
#include <loraga/gradient/dense.hpp>
#include <loraga/gradient/incremental_update.hpp>

namespace loraga {

/// The mean gradient as a truncated SVD that follows the micro-batches, without ever forming a gradient.
/// math    after each micro-batch: U S VT <- the `width` leading triplets of M = U S VT + weight*dY*XT, found in the
///         span of [M*V, N], where the columns of N = dY*D*XT*random look for what is new, and first at heavy tokens: D
///         holds |dy_t|*|x_t| over its mean, within 1/4 ... 4. With power_steps = 1 in that of
///         M*orth([MT*U, X*D*dYT*random]), and so on: power_steps further passes; one more always gives Z = MT*Q
/// loss    truncation loses a share of the energy: on the spectra of bench/results/cpu.json below 4e-3 with
///         power_steps = 0 and below 2e-3 with 1, more where what lies behind `width` triplets is flat; the order of
///         the micro-batches changes the result by as much
/// cost    per add_outer (4 + 2*power_steps)*l*(out + in)*tokens operations, l = width + max(16, 3*width/16), and about
///         5*l^2*(out + in) for orthonormal vectors; add_outer waits for the backend
/// memory  width*(out + in) numbers between calls
/// source  incremental SVD after Brand 2002, with the range finder of Halko, Martinsson, Tropp 2011 warm-started at V
template <class B, class T>
class incremental_gradient {
  index_t rows_, cols_, width_;
  gradient_options options_;
  slab<T, B> u_, s_, v_;
  double weight_ = 0;
  index_t count_ = 0;
  int flags_ = svd_usable;
  double turn_ = std::numeric_limits<double>::quiet_NaN();
  bool any_ = false;  // u_, s_, v_ hold something

 public:
  using value_type = T;
  using space = typename B::space;

  /// errors  value_error if rank < 1 or power_steps < 0; shape_error if out or in < 1, or if width is not 0 and below rank
  incremental_gradient(B& be, index_t out, index_t in, gradient_options options = {})
      : rows_(out), cols_(in), options_(options) {
    char const* const where = "incremental_gradient";
    if (out < 1 || in < 1) raise<shape_error>(where, "shape", shape_text(out, in), "at least 1x1");
    require_value(options.rank >= 1, static_cast<double>(options.rank), where, "rank", "at least 1");
    require_value(options.power_steps >= 0, options.power_steps, where, "power_steps", "at least 0");
    if (options.width != 0 && options.width < options.rank)
      raise<shape_error>(where, "width", std::to_string(options.width), "at least rank, or 0 for 4*rank");
    width_ = std::min({options.width ? options.width : 4 * options.rank, out, in});
    u_ = slab<T, B>(be, 1, out, width_);
    s_ = slab<T, B>(be, 1, width_, 1);
    v_ = slab<T, B>(be, 1, in, width_);
    reset(be);
  }
  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
  index_t width() const { return width_; }  ///< triplets kept: gradient_options::width, at most min(out, in)
  /// How many triplets `top` can give.
  index_t most_triplets() const { return width_; }
  index_t count() const { return count_; }
  double weight() const { return weight_; }
  /// Whether all that was added could be factored; if not, every answer has a flag that says so.
  bool usable() const { return flags_ == svd_usable; }
  /// By how much the last micro-batch turned the subspaces of the leading 2*rank triplets: the sine of an angle, 0 if
  /// not at all. NaN before there are two micro-batches. Once it is small, further ones change little.
  /// math    sqrt(1 - c), c the share of the new triplets' energy within the span of the old ones, on the worse side
  double turn() const { return turn_; }

  void reset(B& be) {
    fill(be, s_.view()[0], 0);
    random_orthonormal(be, u_.view()[0], {options_.seed, 1});
    random_orthonormal(be, v_.view()[0], {options_.seed, 2});
    weight_ = 0;
    count_ = 0;
    flags_ = svd_usable;
    turn_ = std::numeric_limits<double>::quiet_NaN();
    any_ = false;
  }

  /// dW = dY*XT of one micro-batch.
  /// shapes  dY out x tokens, X in x tokens
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    require_shape(dy, rows_, x.cols, "incremental_gradient::add_outer", "dY");
    require_shape(x, cols_, dy.cols, "incremental_gradient::add_outer", "X");
    require_weight(weight, "incremental_gradient::add_outer");
    require_matrix(dy, "incremental_gradient::add_outer", "dY");
    require_matrix(x, "incremental_gradient::add_outer", "X");
    absorb(be, outer_operator<Y, X, T, space>{dy, x, weight, {}});
    note(weight);
  }

  /// dW (out x in) of one micro-batch, where the caller has formed it.
  /// errors  as add_outer
  template <ViewIn<space> V>
  void add(B& be, V dw, double weight = 1) {
    require_shape(dw, rows_, cols_, "incremental_gradient::add", "dW");
    require_weight(weight, "incremental_gradient::add");
    require_matrix(dw, "incremental_gradient::add", "dW");
    absorb(be, sum_operator<V, T, space>{dw, weight, {}});
    note(weight);
  }

  /// Everything `other` saw, up to truncation; an empty one becomes a copy. Processes that merge in one order get the
  /// same bits: see combine for those of one job.
  /// errors  shape_error
  void merge(B& be, incremental_gradient const& other) {
    if (other.rows_ != rows_ || other.cols_ != cols_)
      raise<shape_error>("incremental_gradient::merge", "other", shape_text(other.rows_, other.cols_),
                         shape_text(rows_, cols_));
    if (other.any_) join(be, other.state());
    weight_ += other.weight_;
    count_ += other.count_;
    flags_ |= other.flags_;
  }

  /// A sum of gradients that is known by its triplets, up to truncation; `note` is left to the caller.
  /// errors  shape_error
  void join(B& be, svd_factors<T const, space> const& sum) {
    index_t const k = sum.s.rows;
    require_shape(sum.u, rows_, k, "incremental_gradient::join", "U");
    require_shape(sum.v, cols_, k, "incremental_gradient::join", "V");
    if (!any_ && flags_ == svd_usable && k == width_) return take(be, sum);
    scratch<B> temporary(be);
    auto const scaled = temporary.template matrix<T>(rows_, k);
    be.copy(sum.u, scaled);
    scale_columns(be, sum.s, scaled);
    absorb(be, outer_operator<matrix_view<T, space>, matrix_view<T const, space>, T, space>{scaled, sum.v, 1.0, {}});
  }
  /// Counts a micro-batch whose triplets have come in by another way: streamed_gradient calls it.
  void note(double weight) {
    weight_ += weight;
    ++count_;
  }

  /// Triplets of the weighted sum, not yet divided by weight().
  svd_factors<T const, space> state() const { return {u_.view()[0], s_.view()[0], v_.view()[0]}; }

  template <class C>
  void visit_state(C& c) {
    c.same("power_steps", options_.power_steps);
    c.same("seed", options_.seed);
    c("u", u_.view()[0]);
    c("s", s_.view()[0]);
    c("v", v_.view()[0]);
    c("weight", weight_);
    c("count", count_);
    c("flags", flags_);
    c("turn", turn_);
    c("any", any_);
  }

  /// to = the mean, as the triplets kept give it; NaN if a micro-batch was not finite or not factored.
  /// errors  state_error if there is none yet; shape_error
  void estimate(B& be, matrix_view<T, space> to) const {
    require_seen(count_, "incremental_gradient::estimate");
    require_shape(to, rows_, cols_, "incremental_gradient::estimate", "to");
    if (flags_ != svd_usable) return fill(be, to, std::numeric_limits<double>::quiet_NaN());
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    be.gemm(1 / weight_, scaled_u(be, temporary), state().v.transposed(), 0.0, to);
  }

  /// k leading triplets of every member's mean. The SVD was done on the way, so `svd` is not used.
  /// errors  state_error if a member is empty; shape_error if k exceeds a member's width; numeric faults are flags
  template <class Svd>
  static svd_result<T, B> top(B& be, Svd const&, std::span<incremental_gradient const* const> batch, index_t k) {
    require_readable(batch, "incremental_gradient::top");
    svd_result<T, B> result(be, static_cast<index_t>(batch.size()), batch.empty() ? 0 : batch[0]->rows_,
                            batch.empty() ? 0 : batch[0]->cols_, k);
    for (std::size_t i = 0; i < batch.size(); ++i) {
      auto const& g = *batch[i];
      if (k < 1 || k > g.width_)
        raise<shape_error>("incremental_gradient::top", "k", std::to_string(k),
                           "1.." + std::to_string(g.width_) + ", the width it was built with");
      auto const to = result[static_cast<index_t>(i)];
      auto const from = g.state();
      be.copy(from.u.columns(0, k), to.u);
      axpby(be, 1 / g.weight_, from.s.row_range(0, k), 0.0, to.s);
      be.copy(from.v.columns(0, k), to.v);
      result.flags[i] = g.flags_;
      result.energy[i] = std::numeric_limits<double>::quiet_NaN();  // of what was truncated nothing is known
      if (energy_of(be, from.s) == 0) result.flags[i] |= svd_zero;
    }
    apply_sign_rule(be, result.u.view().side_by_side(), result.v.view().side_by_side());
    return result;
  }
  template <class Svd>
  svd_result<T, B> top(B& be, Svd const& svd, index_t k) const {
    incremental_gradient const* const self[] = {this};
    return top(be, svd, self, k);
  }

 private:
  template <class, class, class>
  friend class detail::incremental_update;
  /// U*S of the sum.
  matrix_view<T, space> scaled_u(B& be, scratch<B>& temporary) const {
    auto const scaled = temporary.template matrix<T>(rows_, width_);
    be.copy(state().u, scaled);
    scale_columns(be, state().s, scaled);
    return scaled;
  }
  /// The state becomes the leading triplets of itself plus `op`.
  template <class Op>
  void absorb(B& be, Op const& op) {
    detail::incremental_update<B, T, Op> one(*this, op);
    detail::incremental_update<B, T, Op>::run(be, std::span(&one, 1), detail::one_process{});
  }
  void take(B& be, svd_factors<T const, space> const& found) {
    be.copy(found.u, u_.view()[0]);
    be.copy(found.s, s_.view()[0]);
    be.copy(found.v, v_.view()[0]);
    any_ = true;
  }

  double turned(B& be, triplet_slabs<T, space> const& found) const {
    index_t const k = std::min(2 * options_.rank, width_);
    auto const s = found.s[0].row_range(0, k);
    scratch<B> temporary(be);
    auto const energies = temporary.template matrix<double>(1, 3);  // all, within U's span, within V's
    auto const overlap = temporary.template matrix<T>(k, k);
    sum_of_squares(be, s, energies.columns(0, 1));
    auto const look = [&](matrix_view<T const, space> before, matrix_view<T, space> now, index_t side) {
      be.gemm(1.0, before.columns(0, k).transposed(), now.columns(0, k), 0.0, overlap);
      scale_columns(be, s, overlap);
      sum_of_squares(be, overlap, energies.columns(side, 1));
    };
    look(state().u, found.u[0], 1);
    look(state().v, found.v[0], 2);
    auto const e = read_all(be, energies);
    return e[0] == 0 ? 0 : std::sqrt(std::max(0.0, 1 - std::min(e[1], e[2]) / e[0]));
  }

  static double energy_of(B& be, matrix_view<T const, space> y) {
    scratch<B> temporary(be);
    auto const cell = temporary.template matrix<double>(1, 1);
    sum_of_squares(be, y, cell);
    return read_scalar(be, cell);
  }
};

}  // namespace loraga
