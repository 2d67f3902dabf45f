#pragma once
#include <algorithm>
#include <loraga/adapter/lora.hpp>
#include <loraga/distributed/agreement.hpp>
#include <loraga/start/layer.hpp>
#include <tuple>

namespace loraga {

/// Along which side of W a layer is cut among the ranks of a tensor-parallel group.
enum class shard_side {
  rows,    ///< W_r out/N x in: B is cut by rows, A is the same on every rank
  columns  ///< W_r out x in/N: A is cut by columns, B is the same on every rank
};

/// The rows or columns of a layer's W that this rank has: `count` from `first` on. Together the ranks have each once.
/// Where a fused matrix is cut part by part (q, k and v, say), each part is a layer of its own.
struct shard {
  shard_side side = shard_side::rows;   ///< what is cut
  index_t whole_out = 0, whole_in = 0;  ///< of the whole W
  index_t first = 0;                    ///< the first row or column
  index_t count = 0;                    ///< how many rows or columns

  bool by_rows() const { return side == shard_side::rows; }           ///< whether B is cut, else A
  index_t whole() const { return by_rows() ? whole_out : whole_in; }  ///< rows or columns of all ranks
  index_t out() const { return by_rows() ? count : whole_out; }
  index_t in() const { return by_rows() ? whole_in : count; }

  /// This rank's part of a matrix that has W's shape.
  template <class V>
  V of_weight(V w) const {
    return by_rows() ? w.row_range(first, count) : w.columns(first, count);
  }
  /// This rank's part of the whole A, r x in.
  template <class V>
  V of_a(V a) const {
    return by_rows() ? a : a.columns(first, count);
  }
  /// This rank's part of the whole B, out x r.
  template <class V>
  V of_b(V b) const {
    return by_rows() ? b.row_range(first, count) : b;
  }
  /// errors  shape_error for a part that is empty, or not within W
  void check(std::string const& where) const {
    if (count < 1 || first < 0 || count > whole() - first)
      raise<shape_error>(where, "shard", text(), "a part that is not empty, within " + shape_text(whole_out, whole_in));
  }
  /// For messages: rows 0..9 of 29x40.
  std::string text() const {
    return std::string(by_rows() ? "rows " : "columns ") + std::to_string(first) + ".." +
           std::to_string(first + count - 1) + " of " + shape_text(whole_out, whole_in);
  }
};

/// The part of rank `rank` of `size`, where all have as many rows or columns as they can.
/// errors  value_error for a rank that is none; shape_error where there are fewer rows or columns than ranks
inline shard even_shard(shard_side side, index_t whole_out, index_t whole_in, int rank, int size) {
  require_value(rank >= 0 && rank < size, rank, "even_shard", "rank", "0.." + std::to_string(size - 1));
  shard part{side, whole_out, whole_in, 0, 0};
  part.first = part.whole() * rank / size;
  part.count = part.whole() * (rank + 1) / size - part.first;
  part.check("even_shard");
  return part;
}

/// A scaling for the adapter of a part: s is that of the whole layer. Build the adapter of every part with it, an
/// ordinary lora of shape part.out() x part.in(). Its passes and merge need no other rank:
///   by rows     y_r = W_r*x + s*B_r*A*x. dX is a sum over ranks, which goes along with the base's own
///   by columns  y = sum_r (W_r*x_r + s*B*A_r*x_r), which goes along with the base's own sum. dX_r is complete
/// sum_replicated then completes the gradients. With dropout, parts by rows see the same X: give their adapters the
/// same seed and dropout_rank, and they draw the same masks. Parts by columns see different ones: give them different
/// dropout_rank; their masks are then others than the whole layer's.
/// errors  shape_error for an adapter of another shape than the part
///   lora<float, cpu> adapter(be, part.out(), part.in(), 8, of_whole{rank_stable_scaling{}, part});
template <Scaling S>
struct of_whole {
  S scaling;   ///< as the whole layer would be given it
  shard part;  ///< of this rank
  double scale(index_t out, index_t in, index_t rank) const {
    part.check("of_whole");
    if (out != part.out() || in != part.in())
      raise<shape_error>("of_whole", "adapter", shape_text(out, in),
                         shape_text(part.out(), part.in()) + ": " + part.text());
    return scaling.scale(part.whole_out, part.whole_in, rank);
  }
};
template <class S>
of_whole(S, shard) -> of_whole<S>;

/// A layer of which this rank has a part, for initialise_sharded and sum_replicated. Views and pointers are borrowed
/// for the call.
///   std::vector layers{sharded_layer{&adapter, part, W, &gradient, "q_proj"}};
template <class A, class W = no_weight, class S = no_source>
struct sharded_layer {
  A* adapter = nullptr;       ///< of the part: a lora
  shard part = {};            ///< what this rank has
  W weight = {};              ///< a view of the part of W; an empty one where it is not at hand
  S const* source = nullptr;  ///< the part's accumulator, fed with dY_r and X, or dY and X_r
  std::string name = {};      ///< for messages

  std::string label(std::size_t position) const { return layer_label(name, position); }
};
template <class A, class W, class S>
sharded_layer(A*, shard, W, S const*, std::string) -> sharded_layer<A, W, S>;
template <class A, class W, class S>
sharded_layer(A*, shard, W, S const*) -> sharded_layer<A, W, S>;
template <class A, class W>
sharded_layer(A*, shard, W) -> sharded_layer<A, W>;
template <class A>
sharded_layer(A*, shard) -> sharded_layer<A>;

namespace detail {

template <class A>
inline constexpr bool is_plain_lora = false;
template <class T, class B>
inline constexpr bool is_plain_lora<lora<T, B>> = true;

template <class L>
struct sharded_parts;
template <class A, class W, class S>
struct sharded_parts<sharded_layer<A, W, S>> {
  using adapter = A;
  using weight = W;
  using source = S;
  static_assert(
      is_plain_lora<A>,
      "sharded layers have the adapter lora: DoRA needs the length of W's whole rows, AdaLoRA and LoRA-SB train "
      "numbers between A and B that no rank could have alone");
};

/// Throws unless the layer's adapter is one of its part.
template <class L>
void check_sharded(L const& l, std::string const& where) {
  l.part.check(where);
  if (!l.adapter) raise<value_error>(where, "adapter", "null", "an adapter");
  if (l.adapter->out() != l.part.out() || l.adapter->in() != l.part.in())
    raise<shape_error>(where, "adapter", shape_text(l.adapter->out(), l.adapter->in()),
                       shape_text(l.part.out(), l.part.in()) + ": " + l.part.text());
}
/// What has to be the same on all ranks.
template <class A>
std::string shard_line(std::string const& label, shard const& p, A const& adapter) {
  return label + ": " + (p.by_rows() ? "rows of " : "columns of ") + shape_text(p.whole_out, p.whole_in) + ", rank " +
         std::to_string(adapter.rank()) + ", s " + std::to_string(adapter.scale());
}
/// Throws unless the parts of all ranks are the whole, each row or column once. All ranks call it with the same.
/// errors  rank_error
inline void require_whole(std::vector<shard> parts, std::string const& where, void const* comm) {
  std::vector<std::size_t> order(parts.size());
  for (std::size_t r = 0; r < order.size(); ++r) order[r] = r;
  std::stable_sort(order.begin(), order.end(), [&](auto x, auto y) { return parts[x].first < parts[y].first; });
  index_t next = 0;
  for (auto const r : order) {
    if (parts[r].first != next)
      throw rank_error(where + ": the part of rank " + std::to_string(r) + " is " + parts[r].text() +
                           ", expected from " + std::to_string(next) + " on: the ranks have every row or column once",
                       comm);
    next += parts[r].count;
  }
  if (next != parts[0].whole())
    throw rank_error(where + ": the parts of all ranks end before " + std::to_string(next) + ", expected " +
                         std::to_string(parts[0].whole()) + ": the ranks have every row or column once",
                     comm);
}

/// agree about details and what is brought, as `describe` returns them. Where it throws on one rank, all throw its
/// words.
template <Backend B, class C, class F>
std::vector<std::string> agree_on(B& be, C& comm, std::string what, F const& describe) {
  rank_message mine{false, std::move(what), {}, {}};
  try {
    std::tie(mine.details, mine.brings) = describe();
  } catch (std::exception const& failure) {
    mine = {true, failure.what(), {}, {}};
  }
  auto all = meet(be, comm, mine);
  require_agreement(all, &comm);
  std::vector<std::string> brought;
  for (auto& m : all) brought.push_back(std::move(m.brings));
  return brought;
}

}  // namespace detail

}  // namespace loraga
