#pragma once
#include <loraga/distributed/shard.hpp>
#include <loraga/distributed/state.hpp>
#include <loraga/gradient/incremental.hpp>
#include <loraga/gradient/offloaded.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/svd/gram.hpp>

// Estimates of parts of W, one rank's each, are joined to that of the whole W.

namespace loraga::detail {

/// What a rank tells of its part of a layer's estimate.
struct part_facts {
  shard part;
  index_t width = 0;  // triplets kept; 0 for sums
  int flags = 0;

  static constexpr std::size_t numbers = 4;
  void write(std::vector<double>& to) const {
    to.insert(to.end(), {static_cast<double>(part.first), static_cast<double>(part.count), static_cast<double>(width),
                         static_cast<double>(flags)});
  }
  static part_facts read(std::vector<double> const& from, std::size_t at, shard like) {
    like.first = static_cast<index_t>(from.at(at));
    like.count = static_cast<index_t>(from.at(at + 1));
    return {like, static_cast<index_t>(from.at(at + 2)), static_cast<int>(from.at(at + 3))};
  }
};
inline std::vector<shard> shards_of(std::vector<part_facts> const& all) {
  std::vector<shard> parts;
  for (auto const& f : all) parts.push_back(f.part);
  return parts;
}

/// Joins sums of gradients: their parts lie side by side in the whole. W is the class of the whole estimate.
template <class W, class B, class F>
class joined_sum {
  using T = typename W::value_type;
  using view = matrix_view<T, typename B::space>;
  std::vector<part_facts> parts_;
  W whole_;

 public:
  using whole = W;
  joined_sum(B& be, std::vector<part_facts> parts)
      : parts_(std::move(parts)), whole_(be, parts_[0].part.whole_out, parts_[0].part.whole_in) {}
  static index_t numbers(part_facts const& p) { return p.part.out() * p.part.in(); }
  template <class G>
  static void pack(B& be, G const& part, T* to) {
    be.copy(F::of(part), matrix_view<T, typename B::space>(to, part.rows(), part.cols(), 1, part.rows()));
  }
  void add(B& be, std::size_t rank, T* from) {
    auto const& p = parts_[rank].part;
    held_state<view> const state(whole_);
    be.copy(view(from, p.out(), p.in(), 1, p.out()), p.of_weight(state.matrix("sum")));
  }
  W finish(B&, double weight, index_t count) {
    held_state<view> const state(whole_);
    state.number("weight") = weight;
    state.count("count") = count;
    return std::move(whole_);
  }
};

/// Joins truncated SVDs of parts by rows, or, transposed, by columns.
/// math    G = blockdiag(U_r)*[V_1*S_1, V_2*S_2, ...]T; the thin matrix is Q*S*PT, so G = (blockdiag(U_r)*P)*S*QT
/// loss    rounding, beside what the parts have lost
template <class B, class T>
class joined_triplets {
  using G = incremental_gradient<B, T>;
  using space = typename B::space;
  using view = matrix_view<T, space>;
  std::vector<part_facts> parts_;
  std::vector<index_t> first_;  // column of each part in thin_
  matrix<T, B> cut_, thin_;     // U_r below each other, V_r*S_r side by side
  bool rows_;

 public:
  using whole = G;
  joined_triplets(B& be, std::vector<part_facts> parts) : parts_(std::move(parts)), rows_(parts_[0].part.by_rows()) {
    index_t widest = 0, columns = 0;
    for (auto const& p : parts_) {
      first_.push_back(columns);
      columns += p.width;
      widest = std::max(widest, p.width);
    }
    auto const& p = parts_[0].part;
    cut_ = {be, p.whole(), widest};
    thin_ = {be, rows_ ? p.whole_in : p.whole_out, columns};
  }
  static index_t numbers(part_facts const& p) { return (p.part.out() + 1 + p.part.in()) * p.width; }
  static void pack(B& be, G const& part, T* to) {
    auto const from = part.state();
    decltype(from.u) const parts[] = {from.u, from.s, from.v};  // nvcc takes no list in a loop's head
    for (auto const& v : parts) {
      be.copy(v, view(to, v.rows, v.cols, 1, v.rows));
      to += v.rows * v.cols;
    }
  }
  void add(B& be, std::size_t rank, T* from) {
    auto const& [part, width, flags] = parts_[rank];
    view const u(from, part.out(), width, 1, part.out());
    view const s(from + part.out() * width, width, 1, 1, width);
    view const v(s.data + width, part.in(), width, 1, part.in());
    auto const scaled = thin_.view().columns(first_[rank], width);
    be.copy(rows_ ? u : v, cut(rank));
    be.copy(rows_ ? v : u, scaled);
    loraga::scale_columns(be, s, scaled);
  }
  G finish(B& be, double weight, index_t count) {
    auto const& p = parts_[0].part;
    [[maybe_unused]] auto const precise = be.full_precision();
    index_t const k = usable();
    gradient_options const options{.rank = 1, .width = k};
    G result(be, p.whole_out, p.whole_in, options);
    matrix_view<T const, space> const thin = thin_.view();
    auto const found = gram{}.top(be, view_list(&thin, 1), k);
    held_state<view> const state(result);
    be.copy(found[0].u, state.matrix(rows_ ? "v" : "u"));
    be.copy(found[0].s, state.matrix("s"));
    auto const to = state.matrix(rows_ ? "u" : "v");
    int flags = found.flags[0] & ~svd_zero;  // zero is no fault of a sum: `top` sees it
    for (std::size_t r = 0; r < parts_.size(); ++r) {
      auto const& q = parts_[r];
      be.gemm(1.0, cut(r), found[0].v.row_range(first_[r], q.width), 0.0, to.row_range(q.part.first, q.part.count));
      flags |= q.flags;
    }
    state.flags("flags") = flags;
    state.truth("any") = true;
    state.number("weight") = weight;
    state.count("count") = count;
    return result;
  }

 private:
  view cut(std::size_t rank) {
    auto const& p = parts_[rank];
    return cut_.view().row_range(p.part.first, p.part.count).columns(0, p.width);
  }
  /// How many triplets of the whole are known: no more than any part kept that had to leave some out.
  index_t usable() const {
    auto const& first = parts_[0].part;
    index_t n = std::min({thin_.cols(), first.whole_out, first.whole_in});
    for (auto const& p : parts_)
      if (p.width < std::min(p.part.out(), p.part.in())) n = std::min(n, p.width);
    return n;
  }
};

/// How parts of a class of estimate are joined, and what they hold.
template <class G>
struct joining {
  static_assert(
      !std::is_same_v<G, G>,
      "a sharded layer's estimate is a dense_gradient, sign_gradient, offloaded_gradient, incremental_gradient, "
      "or one of them in a background_gradient; others cannot be put together from parts");
};
template <class B, class T>
struct joining<dense_gradient<B, T>> {
  using join = joined_sum<dense_gradient<B, T>, B, joining>;
  static auto of(dense_gradient<B, T> const& g) { return g.sum(); }
};
template <class B, class T>
struct joining<sign_gradient<B, T>> {
  using join = joined_sum<sign_gradient<B, T>, B, joining>;
  static auto of(sign_gradient<B, T> const& g) { return g.gradient().sum(); }
};
template <class B, class T>  // one whole layer has room in the device's memory
struct joining<offloaded_gradient<B, T>> {
  using join = joined_sum<dense_gradient<B, T>, B, joining>;
  static auto of(offloaded_gradient<B, T> const& g) { return g.total(); }
};
template <class B, class T>
struct joining<incremental_gradient<B, T>> {
  using join = joined_triplets<B, T>;
};

}  // namespace loraga::detail
