#pragma once
#include <loraga/gradient/alike_operators.hpp>
#include <loraga/gradient/first_look.hpp>
#include <loraga/svd/subspace.hpp>
#include <span>
#include <vector>

// Incremental updates where looking at a result means to wait for it: nothing is read, and what went wrong is noted on
// the device, for whoever reads the estimate. So the update has no second attempt; instead no step of it can break down
// on finite numbers. Layers of one shape go through it together.

namespace loraga::detail {

/// Whether a backend's results are there when a call returns: those that a host can read.
template <class B>
inline constexpr bool finishes_at_once = std::is_same_v<typename B::space, host_space>;

/// y's columns become a basis of what they span, and random columns where they are dependent. It cannot break down, but
/// rounding in q is as large as y's columns are dependent: make q orthonormal once more.
/// math    S = YT*Y in double, of unit diagonal after D*S*D; S = W*L*WT; Q = Y*D*W*L^-1/2 where L is above rounding
/// errors  none: flags gain svd_not_finite or svd_not_converged
/// source  SVQB, Stathopoulos, Wu 2002. The order of columns is lost, which no Rayleigh-Ritz step minds
template <class B, class T>
void spectral_basis(B& be, slab_view<T, typename B::space> y, slab_view<T, typename B::space> q, random_stream stream,
                    slab_view<int, typename B::space> flags) {
  using V = matrix_view<T, typename B::space>;
  using D = matrix_view<double, typename B::space>;
  using I = matrix_view<int, typename B::space>;
  index_t const n = y.cols, layers = y.count;
  scratch<B> temporary(be);
  auto const gram = temporary.template slab<double>(layers, n, n), unit = temporary.template slab<double>(layers, n, n);
  auto const values = temporary.template slab<double>(layers, n, 1);
  auto const factor = temporary.template slab<T>(layers, n, n);
  be.gram_batched(y, gram);
  D const s = gram.side_by_side(), w = unit.side_by_side(), l = values.side_by_side();
  be.for_each(n, n * layers, unit_gram<D, I>{s, w, flags.side_by_side()});
  be.eigh_batched(unit, n, values, flags);
  be.for_each(n, n * layers, spectral_factor<D, V>{s, w, l, factor.side_by_side()});
  be.gemm_batched(1.0, y, factor, 0.0, q);
  be.for_each(y.rows, n * layers, fill_dead_columns<D, V>{l, q.side_by_side(), stream});
}

/// Updates of layers of one shape and history on their way. `U` is the incremental_update that they come from.
template <class U>
class incremental_batch {
  using B = typename U::backend;
  using T = typename U::value_type;
  using Op = typename U::operator_type;
  using space = typename B::space;
  using view = matrix_view<T, space>;
  using slabs = slab_view<T, space>;
  struct part {  // members whose micro-batches are alike
    index_t first, count;
    alike_operators<Op> ops;
  };
  std::vector<U*> members_;
  std::vector<part> parts_;
  kept_views<view, space> u_, v_;
  addresses_of_layers<T> to_u_, to_s_, to_v_;
  addresses_of_layers<T const> s_;
  index_t rows_, cols_, width_, leading_, columns_, known_;
  bool base_, from_left_;
  slabs start_, y_, q_, z_;
  triplet_slabs<T, space> found_;
  slab_view<int, space> flags_;

  index_t count() const { return static_cast<index_t>(members_.size()); }
  random_stream stream(index_t i) const { return members_[static_cast<std::size_t>(i)]->stream(); }

 public:
  /// At most so many layers: as many as an address list holds, and as a gigabyte of scratch is enough for.
  static index_t most(index_t rows, index_t cols, index_t columns) {
    index_t const bytes = 6 * columns * (rows + cols) * static_cast<index_t>(sizeof(T));
    return std::clamp<index_t>((index_t{1} << 30) / bytes, 1, addresses_of_layers<T>::most);
  }

  /// `base`: whether what came before is added here.
  incremental_batch(B& be, scratch<B>& temporary, std::vector<U*> members, bool base) : members_(std::move(members)) {
    auto const& g = *members_[0]->into_;
    rows_ = g.rows_, cols_ = g.cols_, width_ = g.width_;
    leading_ = g.any_ ? std::min(2 * g.options_.rank, width_) : 0;
    known_ = g.any_ ? width_ : 0;
    base_ = g.any_ && base;
    // Nothing is known before the first micro-batch: look three times.
    from_left_ = !g.any_ || g.options_.power_steps == 1;
    columns_ = members_[0]->wanted_columns();
    auto const n = members_.size();
    to_u_ = gather_addresses<T>(n, [&](std::size_t i) { return members_[i]->into_->u_.view()[0].data; });
    to_s_ = gather_addresses<T>(n, [&](std::size_t i) { return members_[i]->into_->s_.view()[0].data; });
    to_v_ = gather_addresses<T>(n, [&](std::size_t i) { return members_[i]->into_->v_.view()[0].data; });
    s_ = gather_addresses<T const>(n, [&](std::size_t i) { return to_s_.at[i]; });
    for (auto* m : members_) u_.add(m->into_->u_.view()[0]), v_.add(m->into_->v_.view()[0]);
    if (g.any_) u_.close(be, temporary), v_.close(be, temporary);
    for (std::size_t i = 0; i < n;) {
      std::vector<Op> ops;
      std::size_t const first = i;
      for (; i < n && alike(members_[first]->op_.op, members_[i]->op_.op); ++i) ops.push_back(members_[i]->op_.op);
      parts_.push_back(
          {static_cast<index_t>(first), static_cast<index_t>(i - first), alike_operators<Op>(be, temporary, ops)});
    }
    index_t const layers = count();
    start_ = temporary.template slab<T>(layers, from_left_ ? rows_ : cols_, columns_);
    y_ = temporary.template slab<T>(layers, rows_, columns_), q_ = temporary.template slab<T>(layers, rows_, columns_);
    z_ = temporary.template slab<T>(layers, cols_, columns_);
    found_ = {temporary.template slab<T>(layers, rows_, width_), temporary.template slab<T>(layers, width_, 1),
              temporary.template slab<T>(layers, cols_, width_)};
    flags_ = temporary.template slab<int>(layers, 1, 1);
    loraga::fill(be, flags_.side_by_side(), 0);
  }
  bool from_left() const { return from_left_; }

  /// The first half of a first look; `totals` gains what ranks add up.
  void begin(B& be, scratch<B>& temporary, std::vector<view>& totals) {
    start_directions<view> task{
        gather_addresses<T const>(members_.size(), [&](std::size_t i) { return (from_left_ ? to_u_ : to_v_).at[i]; }),
        {},
        start_.side_by_side(),
        columns_,
        known_,
        static_cast<T>(start_length()),
        static_cast<T>(1.7320508075688772 * 0x1p-31)};
    for (index_t i = 0; i < count(); ++i) task.stream[i] = stream(i);
    be.for_each((start_.rows + 3) / 4, columns_ * count(), task);
    for (auto& p : parts_)
      p.ops.begin_look(be, temporary, from_left_, start_.matrices(p.first, p.count), known_, totals);
  }
  /// The second half: y = M*start, or z = MT*start.
  void end(B& be, std::vector<view>& results) {
    auto const to = from_left_ ? z_ : y_;
    for (auto& p : parts_) p.ops.end_look(be, from_left_, known_, to.matrices(p.first, p.count));
    if (base_)
      be.for_each(to.rows, known_ * count(),
                  add_known_columns<view>{as_const(from_left_ ? to_v_ : to_u_), s_, to.side_by_side(), columns_, known_,
                                          start_length()});
    append(to, results);
  }
  /// y = M*basis(z), after a first pass from the left
  void back(B& be, std::vector<view>& results) {
    scratch<B> temporary(be);
    auto const q = temporary.template slab<T>(count(), cols_, columns_);
    spectral_basis(be, z_, q, derive(stream(0), 1), flags_);
    apply(be, false, q, y_);
    append(y_, results);
  }
  /// y = orth(y), z = MT*y
  void project(B& be, std::vector<view>& results) {
    spectral_basis(be, y_, q_, derive(stream(0), 2), flags_);
    cholesky_qr(be, q_, y_, first_pass(columns_), flags_);
    apply(be, true, y_, z_);
    append(z_, results);
  }
  /// The triplets within the basis, looked at; layers take those that are good.
  void finish(B& be) {
    solve(be);
    commit(be);
  }

 private:
  double start_length() const { return std::sqrt(static_cast<double>(start_.rows)); }
  static addresses_of_layers<T const> as_const(addresses_of_layers<T> const& a) {
    return gather_addresses<T const>(static_cast<std::size_t>(a.most), [&](std::size_t i) { return a.at[i]; });
  }
  static void append(slabs s, std::vector<view>& to) {
    for (index_t b = 0; b < s.count; ++b) to.push_back(s[b]);
  }
  /// y = M*x, or MT*x where flipped; of M what this rank has
  void apply(B& be, bool flipped, slabs x, slabs y) {
    for (auto const& p : parts_) p.ops.apply(be, flipped, x.matrices(p.first, p.count), y.matrices(p.first, p.count));
    if (!base_) return;
    scratch<B> temporary(be);
    auto const inner = temporary.template slab<T>(count(), width_, x.cols);
    be.gemm_batched(1.0, (flipped ? u_ : v_).list.transposed(), x, 0.0, inner);
    be.for_each(width_, x.cols * count(), scale_known_rows<view>{s_, inner.side_by_side(), x.cols});
    be.gemm_batched(1.0, (flipped ? v_ : u_).list, inner, 1.0, y);
  }
  /// V = Z*W/s needs another pass to be orthonormal.
  void solve(B& be) {
    auto const random = derive(derive(stream(0), 2), 1);
    scratch<B> temporary(be);
    auto raw = found_;
    raw.v = temporary.template slab<T>(count(), cols_, width_);
    subspace::solve_raw(be, y_, z_, raw, random, flags_);
    cholesky_qr(be, raw.v, found_.v, first_pass(width_), flags_);
  }
  void commit(B& be) {
    using D = matrix_view<double, space>;
    using I = matrix_view<int, space>;
    scratch<B> temporary(be);
    index_t const layers = count(), k = width_;
    auto const gram_u = temporary.template slab<double>(layers, k, k),
               gram_v = temporary.template slab<double>(layers, k, k);
    auto const in_u = temporary.template slab<T>(layers, leading_, leading_),
               in_v = temporary.template slab<T>(layers, leading_, leading_);
    D const looks = temporary.template matrix<double>(4, k * layers);
    be.gram_batched(found_.u, gram_u);
    be.gram_batched(found_.v, gram_v);
    if (leading_ > 0) {
      overlap(be, u_, found_.u, in_u);
      overlap(be, v_, found_.v, in_v);
    }
    view const s = found_.s.side_by_side();
    be.for_each(k, layers,
                look_at_columns<view, D>{gram_u.side_by_side(), gram_v.side_by_side(), in_u.side_by_side(),
                                         in_v.side_by_side(), s, looks});
    I const verdict = temporary.template matrix<int>(1, layers);
    constexpr bool is_double = std::is_same_v<T, double>;
    judge_update<view, D, I> judge{{},
                                   {},
                                   looks,
                                   s,
                                   flags_.side_by_side(),
                                   verdict,
                                   is_double ? 1e-12 : 1e-5,
                                   1e6 * static_cast<double>(std::numeric_limits<T>::min()),
                                   leading_ > 0};
    for (std::size_t i = 0; i < members_.size(); ++i) {
      judge.status.at[i] = members_[i]->into_->status_.view().data;
      judge.fresh[i] = !members_[i]->into_->pending_;
    }
    be.for_each(1, layers, judge);
    be.for_each(
        rows_ + cols_ + 1, k * layers,
        take_triplets<view, I>{to_u_, to_s_, to_v_, found_.u.side_by_side(), s, found_.v.side_by_side(), verdict});
    for (auto* m : members_) m->into_->expect(be);
  }
  /// The leading old directions times the leading new ones.
  void overlap(B& be, kept_views<view, space> const& before, slabs now, slabs to) const {
    std::vector<view> leading;
    for (index_t i = 0; i < count(); ++i) leading.push_back(before.list[i].columns(0, leading_));
    view_list<T, space> list(leading);
    list.addresses = before.list.addresses;
    be.gemm_batched(1.0, list.transposed(), now.columns(0, leading_), 0.0, to);
  }
};

/// Many updates, in batches of those that are alike in what all ranks know.
template <class U, class B, class Ranks>
void run_batches(B& be, std::span<U> all, Ranks const& ranks) {
  using batch = incremental_batch<U>;
  std::vector<std::vector<U*>> groups;
  for (auto& u : all) {
    if (!u.wanted()) continue;
    auto const fits = [&](std::vector<U*> const& g) {
      return g[0]->goes_with(u) && static_cast<index_t>(g.size()) < u.most_together();
    };
    auto const found = std::find_if(groups.begin(), groups.end(), fits);
    if (found == groups.end()) groups.push_back({&u});
    else found->push_back(&u);
  }
  auto const steps = [&](scratch<B>& temporary, std::span<batch> some) {
    std::vector<matrix_view<typename U::value_type, typename B::space>> views;
    auto const add_up = [&](auto const& step) {
      views.clear();
      for (auto& b : some) step(b);
      ranks.sum(be, views);
    };
    add_up([&](batch& b) { b.begin(be, temporary, views); });
    add_up([&](batch& b) { b.end(be, views); });
    add_up([&](batch& b) {
      if (b.from_left()) b.back(be, views);
    });
    add_up([&](batch& b) { b.project(be, views); });
    for (auto& b : some) b.finish(be);
  };
  std::size_t const at_once = Ranks::alone ? 1 : groups.size();
  for (std::size_t first = 0; first < groups.size(); first += at_once) {
    scratch<B> temporary(be);
    std::vector<batch> some;
    for (std::size_t i = first; i < std::min(groups.size(), first + at_once); ++i)
      some.emplace_back(be, temporary, std::move(groups[i]), ranks.holds_base);
    steps(temporary, some);
  }
}

}  // namespace loraga::detail
