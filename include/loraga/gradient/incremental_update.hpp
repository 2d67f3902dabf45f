#pragma once
#include <loraga/gradient/incremental_batch.hpp>
#include <optional>
#include <span>
#include <vector>

namespace loraga {

template <class B, class T = float>
class incremental_gradient;

namespace detail {

/// What a process that works alone adds to products, and to what it finds: nothing.
struct one_process {
  static constexpr bool alone = true;       ///< no other process takes part
  static constexpr bool holds_base = true;  ///< whether what came before is added here
  template <class B, class V>
  void sum(B&, std::vector<V> const&) const {}
  template <class B>
  void join_flags(B&, std::vector<int>&) const {}
};

/// A micro-batch on its way into an incremental_gradient, or the part of it that one of several ranks saw. Updates of
/// many layers go in step, so that ranks add up their products together. Where looking at results means to wait, they
/// go the way of incremental_batch, which does not look.
template <class B, class T, class Op>
class incremental_update {
  template <class>
  friend class incremental_batch;
  using space = typename B::space;
  using view = matrix_view<T, space>;
  using slabs = slab_view<T, space>;
  incremental_gradient<B, T>* into_;
  scaled_operator<Op> op_;
  index_t tokens_;           // of all ranks together
  index_t known_ = 0;        // columns of start_ that are directions of the estimate so far
  bool from_left_ = false;   // the first pass is z = MT*start, else y = M*start
  slabs start_, y_, q_, z_;  // q_ as y_
  slabs basis_;              // y_ or q_: orthonormal
  double start_scale_ = 1;   // that start_ was multiplied by
  look_state<T, space> look_;
  triplet_slabs<T, space> found_{};
  slab_view<int, space> flag_, doubt_;
  int flags_ = svd_usable, steps_ = 0;
  bool gave_up_ = false;

 public:
  using backend = B;
  using value_type = T;
  using operator_type = Op;

  /// The operator's base is set by `run`. `tokens` are those of all ranks, where there are others.
  incremental_update(incremental_gradient<B, T>& into, Op const& op, std::optional<index_t> tokens = {})
      : into_(&into), op_{op, 1}, tokens_(tokens.value_or(tokens_of(op))) {}

  /// Columns that an update of an estimate of that width multiplies with, at most.
  static index_t columns(incremental_gradient<B, T> const& g) {
    return std::min({g.width_ + new_directions(g.width_), g.rows_, g.cols_});
  }

  /// Every estimate takes its update. `ranks` has
  ///   sum(be, views)          every view becomes the sum of all ranks'
  ///   join_flags(be, flags)   every number becomes all ranks' together
  ///   holds_base              whether this rank's operators carry what came before; exactly one does
  ///   alone                   whether there are no other ranks
  template <class Ranks>
  static void run(B& be, std::span<incremental_update> all, Ranks const& ranks) {
    [[maybe_unused]] auto const precise = be.full_precision();
    if constexpr (!Ranks::alone) settle(be, all);  // or ranks might not agree on what is poisoned
    if constexpr (!finishes_at_once<B>) {
      run_batches<incremental_update>(be, all, ranks);
      if constexpr (!Ranks::alone) join_batches(be, all, ranks);
    }
    list open;
    for (auto& u : all)
      if (!u.goes_in_batches() && !u.poisoned(be)) open.push_back(&u);
    if (!open.empty()) run_looking(be, open, ranks);
  }

  /// Whether its update goes without looking. Two power steps multiply twice without orthonormal columns in between,
  /// which needs a scale that is known. Where triplets are as many as fill much of a side, random columns in the place
  /// of missing ones are not orthonormal to the others.
  bool goes_in_batches() const {
    auto const& g = *into_;
    bool const crowded = 4 * g.width_ > std::min(g.rows_, g.cols_);
    return !finishes_at_once<B> && !crowded && g.options_.power_steps < 2;
  }
  /// Whether a batch is to take it: it goes there, and is not known to be poisoned.
  bool wanted() const { return goes_in_batches() && into_->flags_ == svd_usable; }
  /// Whether a batch may take both: what decides is the same on all ranks.
  bool goes_with(incremental_update const& o) const {
    auto const &a = *into_, &b = *o.into_;
    return a.rows_ == b.rows_ && a.cols_ == b.cols_ && a.width_ == b.width_ && a.any_ == b.any_ &&
           a.options_.rank == b.options_.rank && a.options_.power_steps == b.options_.power_steps &&
           wanted_columns() == o.wanted_columns();
  }
  /// How many like this one a batch may have.
  index_t most_together() const {
    return incremental_batch<incremental_update>::most(into_->rows_, into_->cols_, wanted_columns());
  }

 private:
  using list = std::vector<incremental_update*>;

  static void settle(B& be, std::span<incremental_update const> all) {
    std::vector<incremental_gradient<B, T> const*> into;
    for (auto const& u : all) into.push_back(u.into_);
    incremental_gradient<B, T>::settle(be, into);
  }
  /// What one rank's device found out, all know.
  template <class Ranks>
  static void join_batches(B& be, std::span<incremental_update> all, Ranks const& ranks) {
    settle(be, all);
    std::vector<int> flags;
    for (auto const& u : all)
      if (u.goes_in_batches()) flags.push_back(u.into_->flags_);
    if (flags.empty()) return;
    ranks.join_flags(be, flags);
    std::size_t at = 0;
    for (auto& u : all)
      if (u.goes_in_batches()) u.into_->flags_ = flags[at++];
  }
  bool poisoned(B& be) const {
    settle(be, std::span(this, 1));
    return into_->flags_ != svd_usable;
  }
  /// The updates in step, each with a look at what came out.
  template <class Ranks>
  static void run_looking(B& be, list open, Ranks const& ranks) {
    scratch<B> temporary(be);
    for (auto* u : open) u->prepare(be, temporary, ranks.holds_base);
    first_pass_of(be, open, ranks);
    scale(be, open, ranks);
    factor(be, open, ranks, caution::optimistic);
    list again;
    for (auto* u : open)
      if (u->flags_ & svd_ill_conditioned) again.push_back(u);
    if (!again.empty()) {
      first_pass_of(be, again, ranks);
      factor(be, again, ranks, caution::safe);
    }
    for (auto* u : open) u->commit(be);
  }
  random_stream stream() const { return {into_->options_.seed, static_cast<std::uint64_t>(into_->count_)}; }

  index_t wanted_columns() const {
    auto const& g = *into_;  // tokens bring no more directions
    return std::min(columns(g), g.any_ ? g.width_ + tokens_ : std::max(g.width_, tokens_));
  }
  void prepare(B& be, scratch<B>& temporary, bool base) {
    auto const& g = *into_;
    if (g.any_ && base) op_.op.base = g.state();
    index_t const l = wanted_columns();
    // Nothing is known before the first micro-batch: look three times.
    steps_ = g.any_ ? g.options_.power_steps : std::max(1, g.options_.power_steps);
    from_left_ = steps_ % 2 == 1;
    index_t const side = from_left_ ? g.rows_ : g.cols_;
    y_ = temporary.template slab<T>(1, g.rows_, l), q_ = temporary.template slab<T>(1, g.rows_, l);
    z_ = temporary.template slab<T>(1, g.cols_, l), start_ = temporary.template slab<T>(1, side, l);
    found_ = {temporary.template slab<T>(1, g.rows_, g.width_), temporary.template slab<T>(1, g.width_, 1),
              temporary.template slab<T>(1, g.cols_, g.width_)};
    flag_ = temporary.template slab<int>(1, 1, 1), doubt_ = temporary.template slab<int>(1, 1, 1);
    known_ = g.any_ ? g.width_ : 0;
    fill_test_matrix(be, start_[0].columns(known_, l - known_), stream());
    if (g.any_)
      loraga::axpby(be, start_length(), from_left_ ? g.state().u : g.state().v, 0.0, start_[0].columns(0, known_));
  }
  /// Of random columns, and so that of the others.
  double start_length() const { return std::sqrt(static_cast<double>(start_.rows)); }
  /// What the first pass gives.
  slabs& first() { return from_left_ ? z_ : y_; }

  template <class Ranks>
  static void sum(B& be, list const& some, Ranks const& ranks, slabs incremental_update::*which) {
    std::vector<view> views;
    for (auto* u : some) views.push_back((u->*which)[0]);
    ranks.sum(be, views);
  }
  /// first() = op*start, or opT*start, where random columns look at heavy tokens first and leave out the base
  template <class Ranks>
  static void first_pass_of(B& be, list const& some, Ranks const& ranks) {
    scratch<B> temporary(be);
    std::vector<view> totals, results;
    for (auto* u : some) {
      u->begin(be, temporary);
      totals.push_back(u->look_.total);
      results.push_back(u->first()[0]);
    }
    ranks.sum(be, totals);
    for (auto* u : some) u->end(be);
    ranks.sum(be, results);
  }
  void begin(B& be, scratch<B>& temporary) {
    double const before = op_.scale == 1 ? 1 : std::ldexp(1.0, std::ilogb(op_.scale) / 2);
    if (before != start_scale_) loraga::axpby(be, before / start_scale_, start_[0], 0.0, start_[0]);
    start_scale_ = before;
    if (from_left_) look_ = begin_look(be, temporary, other_side(op_.op), start_[0], known_);
    else look_ = begin_look(be, temporary, op_.op, start_[0], known_);
  }
  void end(B& be) {
    double const alpha = op_.scale / start_scale_;
    view const to = first()[0];
    if (from_left_) end_look(be, other_side(op_.op), look_, known_, alpha, to);
    else end_look(be, op_.op, look_, known_, alpha, to);
    auto const& base = op_.op.base;
    if (base.s.rows == 0) return;
    auto const u = from_left_ ? base.v : base.u;
    using R = matrix_view<T const, space>;
    be.for_each(to.rows, known_,
                add_scaled_columns<view, R>{u, base.s, to.columns(0, known_), op_.scale * start_length()});
  }
  /// Brings operators near norm 1, and leaves out those that are zero or not finite.
  template <class Ranks>
  static void scale(B& be, list& open, Ranks const& ranks) {
    list rest, again;
    for (auto* u : open) {
      double const energy = u->into_->energy_of(be, u->first()[0]);
      if (!is_finite(energy)) u->into_->flags_ |= svd_not_finite;
      else if (energy == 0) loraga::fill(be, u->into_->s_.view()[0], 0);
      if (!is_finite(energy) || energy == 0) continue;
      rest.push_back(u);
      u->op_.scale = safe_scale(energy);
      if (u->op_.scale != 1) again.push_back(u);
    }
    open = rest;
    if (!again.empty()) first_pass_of(be, again, ranks);
  }
  /// Work on this update alone. A solver that gives up in the safe way has left NaN; the others go on.
  template <class F>
  void attempt(caution how, F const& work) {
    if (how == caution::optimistic) return work();
    try {
      work();
    } catch (numeric_error const&) {
      gave_up_ = true;
    }
  }
  /// found = the leading triplets, from the first pass
  template <class Ranks>
  static void factor(B& be, list const& all, Ranks const& ranks, caution how) {
    if (all.empty()) return;
    for (auto* u : all) loraga::fill(be, u->flag_[0], 0);
    list left;
    for (auto* u : all)
      if (u->from_left_) left.push_back(u);
    for (auto* u : left) u->attempt(how, [&] { u->back(be, how); });
    sum(be, left, ranks, &incremental_update::y_);
    for (int i = 1;; ++i) {
      list some;
      for (auto* u : all)
        if (u->steps_ / 2 >= i) some.push_back(u);
      if (some.empty()) break;
      for (auto* u : some)
        u->attempt(how, [&] {
          orthonormal_pass(be, u->y_, u->q_, first_pass(u->y_.cols), how, derive(u->stream(), 1), u->flag_);
          u->op_.apply_transposed(be, u->q_, u->z_);
        });
      sum(be, some, ranks, &incremental_update::z_);
      for (auto* u : some) u->op_.apply(be, u->z_, u->y_);
      sum(be, some, ranks, &incremental_update::y_);
    }
    for (auto* u : all)
      u->attempt(how, [&] {
        u->orthonormal_basis(be, how);
        u->op_.apply_transposed(be, u->basis_, u->z_);
      });
    sum(be, all, ranks, &incremental_update::z_);
    std::vector<int> flags;
    for (auto* u : all) {
      u->attempt(how, [&] { u->solve(be, how); });
      flags.push_back(u->gave_up_ ? int{svd_not_converged} : read_scalar(be, u->flag_[0]));
    }
    ranks.join_flags(be, flags);
    for (std::size_t i = 0; i < all.size(); ++i) all[i]->flags_ = flags[i];
  }
  /// y = op*orth(z), after a first pass from the left
  void back(B& be, caution how) {
    scratch<B> temporary(be);
    auto const q = temporary.template slab<T>(1, z_.rows, z_.cols);
    orthonormal_pass(be, z_, q, first_pass(z_.cols), how, derive(stream(), 1), flag_);
    op_.apply(be, q, y_);
  }
  /// basis = orth(y), by one pass where that is enough.
  void orthonormal_basis(B& be, caution how) {
    basis_ = q_;
    if (how == caution::optimistic) {
      loraga::fill(be, doubt_[0], 0);
      cholesky_qr(be, y_, q_, only_pass(), doubt_);
      if (read_scalar(be, doubt_[0]) == 0) return;
    }
    subspace::orthonormal_twice(be, y_, q_, how, derive(stream(), 2), flag_);
    basis_ = y_;
  }
  /// found = the triplets within the basis, looked at. V is orthonormalised where it did not come out so.
  void solve(B& be, caution how) {
    auto const check = [&](slab_view<int, space> flag) {
      check_triplets(be, found_, matrix_view<double const, space>{}, 1, how, flag);
    };
    auto const random = derive(derive(stream(), 2), 1);
    if (how == caution::safe) {
      subspace::solve(be, basis_, z_, found_, how, random, flag_);
      return check(flag_);
    }
    subspace::solve_raw(be, basis_, z_, found_, random, flag_);
    loraga::fill(be, doubt_[0], 0);
    check(doubt_);
    if (read_scalar(be, doubt_[0]) == 0) return;
    scratch<B> temporary(be);
    auto const raw = temporary.template slab<T>(1, found_.v.rows, found_.v.cols);
    be.copy(found_.v[0], raw[0]);
    orthonormal_pass(be, raw, found_.v, repeated_pass(), how, derive(random, 2), flag_);
    check(flag_);
  }
  void commit(B& be) {
    auto& g = *into_;
    if (op_.scale != 1) loraga::axpby(be, 1 / op_.scale, found_.s[0], 0.0, found_.s[0]);
    if (!is_finite(g.energy_of(be, found_.s[0]))) flags_ |= svd_out_of_range;
    g.flags_ |= flags_;
    if (g.flags_ != svd_usable) return;
    if (g.any_) g.turn_ = g.turned(be, found_);
    g.take(be, {found_.u[0], found_.s[0], found_.v[0]});
  }
};

}  // namespace detail

}  // namespace loraga
