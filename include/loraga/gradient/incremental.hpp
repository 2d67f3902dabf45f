#pragma once
#include <loraga/gradient/dense.hpp>
#include <loraga/gradient/incremental_update.hpp>
#include <set>

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
///         5*l^2*(out + in) for orthonormal vectors, twice that on a GPU. There nothing waits up to power_steps = 1
///         where 4*width is at most the smaller side: what an update finds out is read by top, estimate, merge, usable,
///         turn and visit_state
/// memory  width*(out + in) numbers between calls
/// source  incremental SVD after Brand 2002, with the range finder of Halko, Martinsson, Tropp 2011 warm-started at V
template <class B, class T>
class incremental_gradient {
  index_t rows_, cols_, width_;
  gradient_options options_;
  slab<T, B> u_, s_, v_;
  double weight_ = 0;
  index_t count_ = 0;
  // What is known on the host. Where updates do not wait, more may be in status_, until somebody asks.
  mutable int flags_ = svd_usable;
  mutable double turn_ = std::numeric_limits<double>::quiet_NaN();
  bool any_ = false;              // u_, s_, v_ hold something
  matrix<double, B> status_;      // see layer_status
  mutable bool pending_ = false;  // it holds what is not known yet
  B* asked_ = nullptr;            // of whom

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
    if constexpr (!detail::finishes_at_once<B>) status_ = {be, detail::status_numbers, 1};
    reset(be);
  }
  index_t rows() const { return rows_; }
  index_t cols() const { return cols_; }
  index_t width() const { return width_; }  ///< triplets kept: gradient_options::width, at most min(out, in)
  /// How many triplets `top` can give.
  index_t most_triplets() const { return width_; }
  index_t count() const { return count_; }
  double weight() const { return weight_; }
  /// Whether all that was added could be factored; if not, every answer has a flag that says so. Waits for the backend
  /// of the last update, where that did not wait.
  bool usable() const {
    settle();
    return flags_ == svd_usable;
  }
  /// By how much the last micro-batch turned the subspaces of the leading 2*rank triplets: the sine of an angle, 0 if
  /// not at all. NaN before there are two micro-batches. Once it is small, further ones change little.
  /// Waits as `usable` does.
  /// math    sqrt(1 - c), c the share of the new triplets' energy within the span of the old ones, on the worse side
  double turn() const {
    settle();
    return turn_;
  }

  void reset(B& be) {
    fill(be, s_.view()[0], 0);
    random_orthonormal(be, u_.view()[0], {options_.seed, 1});
    random_orthonormal(be, v_.view()[0], {options_.seed, 2});
    weight_ = 0;
    count_ = 0;
    flags_ = svd_usable;
    turn_ = std::numeric_limits<double>::quiet_NaN();
    any_ = false;
    pending_ = false;
  }

  /// dW = dY*XT of one micro-batch.
  /// shapes  dY out x tokens, X in x tokens
  /// errors  shape_error, or value_error for a weight that is not positive; nothing changes then
  template <ViewIn<space> Y, ViewIn<space> X>
  void add_outer(B& be, Y dy, X x, double weight = 1) {
    check_outer(dy, x, weight, "incremental_gradient::add_outer");
    absorb(be, outer_operator<Y, X, T, space>{dy, x, weight, {}});
    note(weight);
  }

  /// One layer's part of a micro-batch, for add_outer_all.
  template <ViewIn<space> Y, ViewIn<space> X>
  struct layer_batch {
    incremental_gradient* into;  ///< whose estimate takes it
    Y dy;                        ///< out x tokens
    X x;                         ///< in x tokens
    double weight = 1;           ///< of the micro-batch
  };
  /// add_outer of many layers, each once. On a GPU layers of one shape go through the update together, which costs
  /// about as many launches as one of them; elsewhere one after the other.
  /// errors  as add_outer; value_error if an estimate is null or comes twice; nothing changes then
  /// memory  on a GPU scratch for the layers of one shape, at most a gigabyte beside what their tokens take
  template <ViewIn<space> Y, ViewIn<space> X>
  static void add_outer_all(B& be, std::span<layer_batch<Y, X> const> all) {
    char const* const where = "incremental_gradient::add_outer_all";
    std::set<incremental_gradient const*> seen;
    for (auto const& b : all) {
      if (!b.into || !seen.insert(b.into).second)
        raise<value_error>(where, "estimate", b.into ? "there twice" : "null", "each layer's own, once");
      b.into->check_outer(b.dy, b.x, b.weight, where);
    }
    using Op = outer_operator<Y, X, T, space>;
    if constexpr (detail::finishes_at_once<B>) {
      for (auto const& b : all) b.into->absorb(be, Op{b.dy, b.x, b.weight, {}});
    } else {
      std::vector<detail::incremental_update<B, T, Op>> updates;
      for (auto const& b : all) updates.emplace_back(*b.into, Op{b.dy, b.x, b.weight, {}});
      detail::incremental_update<B, T, Op>::run(be, std::span(updates), detail::one_process{});
    }
    for (auto const& b : all) b.into->note(b.weight);
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
    other.settle();
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
    settle();
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
    settle();
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
    settle(be, batch);
    svd_result<T, B> result(be, static_cast<index_t>(batch.size()), batch.empty() ? 0 : batch[0]->rows_,
                            batch.empty() ? 0 : batch[0]->cols_, k);
    scratch<B> temporary(be);
    auto const energies = temporary.template matrix<double>(1, result.count());
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
      sum_of_squares(be, from.s, energies.columns(static_cast<index_t>(i), 1));
    }
    auto const found = read_all(be, energies);
    for (std::size_t i = 0; i < batch.size(); ++i)
      if (found[i] == 0) result.flags[i] |= svd_zero;
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
  template <class>
  friend class detail::incremental_batch;

  template <class Y, class X>
  void check_outer(Y const& dy, X const& x, double weight, char const* where) const {
    require_shape(dy, rows_, x.cols, where, "dY");
    require_shape(x, cols_, dy.cols, where, "X");
    require_weight(weight, where);
    require_matrix(dy, where, "dY");
    require_matrix(x, where, "X");
  }
  /// An update has left what it found in status_.
  void expect(B& be) {
    any_ = pending_ = true;
    asked_ = &be;
  }
  /// Reads what updates have left.
  static void settle(B& be, std::span<incremental_gradient const* const> all) {
    std::vector<incremental_gradient const*> open;
    for (auto const* g : all)
      if (g->pending_) open.push_back(g);
    if (open.empty()) return;
    scratch<B> temporary(be);
    auto const cells = temporary.template matrix<double>(detail::status_numbers, static_cast<index_t>(open.size()));
    for (std::size_t i = 0; i < open.size(); ++i)
      be.copy(open[i]->status_.view(), cells.columns(static_cast<index_t>(i), 1));
    auto const found = read_all(be, cells);
    for (std::size_t i = 0; i < open.size(); ++i) {
      double const* const cell = found.data() + i * std::size_t{detail::status_numbers};
      open[i]->flags_ |= static_cast<int>(cell[detail::status_flags]);
      if (cell[detail::status_energy] >= 0)
        open[i]->turn_ = turn_of(cell[detail::status_energy], cell[detail::status_in_u], cell[detail::status_in_v]);
      open[i]->pending_ = false;
    }
  }
  void settle() const {
    incremental_gradient const* const self = this;
    if (pending_) settle(*asked_, std::span(&self, 1));
  }
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
    return turn_of(e[0], e[1], e[2]);
  }
  static double turn_of(double energy, double in_u, double in_v) {
    return energy == 0 ? 0 : std::sqrt(std::max(0.0, 1 - std::min(in_u, in_v) / energy));
  }

  static double energy_of(B& be, matrix_view<T const, space> y) {
    scratch<B> temporary(be);
    auto const cell = temporary.template matrix<double>(1, 1);
    sum_of_squares(be, y, cell);
    return read_scalar(be, cell);
  }
};

}  // namespace loraga
