#pragma once
#include <loraga/svd/subspace.hpp>
#include <span>
#include <vector>

namespace loraga {

template <class B, class T = float>
class incremental_gradient;

namespace detail {

/// What a process that works alone adds to products, and to what it finds: nothing.
struct one_process {
  static constexpr bool holds_base = true;  ///< whether what came before is added here
  template <class B, class V>
  void sum(B&, std::vector<V> const&) const {}
  template <class B>
  void join_flags(B&, std::vector<int>&) const {}
};

/// A micro-batch on its way into an incremental_gradient, or the part of it that one of several ranks saw. Updates of
/// many layers go in step, so that ranks add up their products together.
template <class B, class T, class Op>
class incremental_update {
  using space = typename B::space;
  using slabs = slab_view<T, space>;
  incremental_gradient<B, T>* into_;
  scaled_operator<Op> op_;
  slabs start_, y_, q_, z_;
  triplet_slabs<T, space> found_{};
  slab_view<int, space> flag_;
  int flags_ = svd_usable, steps_ = 0;
  bool gave_up_ = false;

 public:
  /// The operator's base is set by `run`.
  incremental_update(incremental_gradient<B, T>& into, Op const& op) : into_(&into), op_{op, 1} {}

  /// Every estimate takes its update. `ranks` has
  ///   sum(be, views)          every view becomes the sum of all ranks'
  ///   join_flags(be, flags)   every number becomes all ranks' together
  ///   holds_base              whether this rank's operators carry what came before; exactly one does
  template <class Ranks>
  static void run(B& be, std::span<incremental_update> all, Ranks const& ranks) {
    [[maybe_unused]] auto const precise = be.full_precision();
    scratch<B> temporary(be);
    list open;
    for (auto& u : all)
      if (u.into_->flags_ == svd_usable) {  // else poisoned
        u.prepare(be, temporary, ranks.holds_base);
        open.push_back(&u);
      }
    product(be, open, ranks);
    scale(be, open, ranks);
    factor(be, open, ranks, caution::optimistic);
    list again;
    for (auto* u : open)
      if (u->flags_ & svd_ill_conditioned) again.push_back(u);
    if (!again.empty()) {
      product(be, again, ranks);
      factor(be, again, ranks, caution::safe);
    }
    for (auto* u : open) u->commit(be);
  }

 private:
  using list = std::vector<incremental_update*>;
  random_stream stream() const { return {into_->options_.seed, static_cast<std::uint64_t>(into_->count_)}; }

  void prepare(B& be, scratch<B>& temporary, bool base) {
    auto const& g = *into_;
    if (g.any_ && base) op_.op.base = g.state();
    index_t const l = std::min({g.width_ + std::max<index_t>(8, g.width_ / 4), g.rows_, g.cols_});
    // Nothing is known before the first micro-batch: look twice.
    steps_ = g.any_ ? g.options_.power_steps : std::max(1, g.options_.power_steps);
    y_ = temporary.template slab<T>(1, g.rows_, l), q_ = temporary.template slab<T>(1, g.rows_, l);
    z_ = temporary.template slab<T>(1, g.cols_, l), start_ = temporary.template slab<T>(1, g.cols_, l);
    found_ = {temporary.template slab<T>(1, g.rows_, g.width_), temporary.template slab<T>(1, g.width_, 1),
              temporary.template slab<T>(1, g.cols_, g.width_)};
    flag_ = temporary.template slab<int>(1, 1, 1);
    fill_test_matrix(be, start_[0], stream());
    if (g.any_)
      loraga::axpby(be, std::sqrt(static_cast<double>(g.cols_)), g.state().v, 0.0, start_[0].columns(0, g.width_));
  }

  template <class Ranks>
  static void sum(B& be, list const& some, Ranks const& ranks, slabs incremental_update::*which) {
    std::vector<matrix_view<T, space>> views;
    for (auto* u : some) views.push_back((u->*which)[0]);
    ranks.sum(be, views);
  }
  /// y = op*start
  template <class Ranks>
  static void product(B& be, list const& some, Ranks const& ranks) {
    for (auto* u : some) u->op_.apply(be, u->start_, u->y_);
    sum(be, some, ranks, &incremental_update::y_);
  }
  /// Brings operators near norm 1, and leaves out those that are zero or not finite.
  template <class Ranks>
  static void scale(B& be, list& open, Ranks const& ranks) {
    list rest, again;
    for (auto* u : open) {
      double const energy = u->into_->energy_of(be, u->y_[0]);
      if (!is_finite(energy)) u->into_->flags_ |= svd_not_finite;
      else if (energy == 0) loraga::fill(be, u->into_->s_.view()[0], 0);
      if (!is_finite(energy) || energy == 0) continue;
      rest.push_back(u);
      u->op_.scale = safe_scale(energy);
      if (u->op_.scale != 1) again.push_back(u);
    }
    open = rest;
    if (!again.empty()) product(be, again, ranks);
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
  /// found = the leading triplets, from y
  template <class Ranks>
  static void factor(B& be, list const& all, Ranks const& ranks, caution how) {
    if (all.empty()) return;
    list some = all;
    for (auto* u : all) loraga::fill(be, u->flag_[0], 0);
    for (int i = 0;; ++i) {
      std::erase_if(some, [&](auto* u) { return u->steps_ <= i; });
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
        subspace::orthonormal_twice(be, u->y_, u->q_, how, derive(u->stream(), 2), u->flag_);
        u->op_.apply_transposed(be, u->y_, u->z_);
      });
    sum(be, all, ranks, &incremental_update::z_);
    std::vector<int> flags;
    for (auto* u : all) {
      u->attempt(how, [&] {
        subspace::solve(be, u->y_, u->z_, u->found_, how, derive(derive(u->stream(), 2), 1), u->flag_);
        check_triplets(be, u->found_, matrix_view<double const, space>{}, 1, how, u->flag_);
      });
      flags.push_back(u->gave_up_ ? int{svd_not_converged} : read_scalar(be, u->flag_[0]));
    }
    ranks.join_flags(be, flags);
    for (std::size_t i = 0; i < all.size(); ++i) all[i]->flags_ = flags[i];
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
