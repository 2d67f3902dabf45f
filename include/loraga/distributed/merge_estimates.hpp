#pragma once
#include <bit>
#include <limits>
#include <loraga/distributed/buckets.hpp>
#include <loraga/distributed/state.hpp>
#include <loraga/gradient/model_gradient.hpp>

// Incremental estimates of several ranks become one: layers are halved between partners, so that merging is shared
// work, and handed to everyone by whoever has them last.

namespace loraga::detail {

/// Layers first ... last-1.
struct layer_range {
  std::size_t first = 0, last = 0;
};

/// Cuts a range into two of about the same cost.
template <class F>
std::pair<layer_range, layer_range> halves(layer_range all, F const& cost) {
  double total = 0, half = 0;
  for (auto i = all.first; i < all.last; ++i) total += cost(i);
  auto cut = all.first;
  while (cut < all.last && half + cost(cut) / 2 <= total / 2) half += cost(cut++);
  return {{all.first, cut}, {cut, all.last}};
}

/// The estimates of one rank, while they merge with the others'.
template <class B, class T>
class merging {
  using view = matrix_view<T, typename B::space>;
  using member = incremental_gradient<B, T>;
  B& be_;
  std::span<member* const> members_;
  std::vector<held_state<view>> states_;
  std::vector<char> holds_;  // by rank and layer: whether there is anything to merge
  int rank_, size_;
  static constexpr char const* names[3] = {"u", "s", "v"};

 public:
  template <class C>
  merging(B& be, C const& comm, std::span<member* const> members)
      : be_(be), members_(members), rank_(comm.rank()), size_(comm.size()) {
    for (auto* g : members) states_.emplace_back(*g);
  }
  std::vector<held_state<view>> const& states() const { return states_; }
  double cost(std::size_t i) const {
    return static_cast<double>((members_[i]->rows() + members_[i]->cols()) * members_[i]->width());
  }

  /// errors  rank_error, the same on every rank
  template <class C>
  void run(C& comm, std::string const& what, std::string const& lines, bucket_options options) {
    std::vector<double> mine;
    for (auto const& s : states_)
      mine.insert(mine.end(), {s.number("weight"), static_cast<double>(s.count("count")),
                               static_cast<double>(s.flags("flags")), s.truth("any") ? 1.0 : 0.0});
    std::vector<std::vector<double>> all;
    for (auto const& text : agree(be_, comm, what, lines, packed(mine))) all.push_back(unpacked<double>(text));
    for (auto const& theirs : all)
      for (std::size_t i = 0; i < states_.size(); ++i) holds_.push_back(theirs[4 * i + 3] != 0 ? 1 : 0);

    int const active = static_cast<int>(std::bit_floor(static_cast<unsigned>(size_)));
    auto const owned = reduce(comm, active);
    adopt(all);
    spread(comm, active, owned, options);
  }

 private:
  char& holds(int rank, std::size_t layer) { return holds_[static_cast<std::size_t>(rank) * states_.size() + layer]; }

  /// Merges until every layer is in one place.
  template <class C>
  std::vector<layer_range> reduce(C& comm, int active) {
    auto const cost = [this](std::size_t i) { return this->cost(i); };
    std::vector<layer_range> ranges(static_cast<std::size_t>(active), {0, states_.size()});
    if (rank_ >= active) pass(comm, rank_ - active, ranges[0], {});
    else if (rank_ + active < size_) pass(comm, rank_ + active, {}, ranges[0]);
    for (int r = 0; r + active < size_; ++r) joined(r, r + active, ranges[0]);
    for (int step = active / 2; step >= 1; step /= 2) {
      agree(be_, comm, "the next round of combine");  // a rank that failed in the last one is noticed here
      auto const before = ranges;
      for (int r = 0; r < active; ++r) {
        auto const [low, high] = halves(before[static_cast<std::size_t>(r)], cost);
        bool const lower = (r & step) == 0;
        ranges[static_cast<std::size_t>(r)] = lower ? low : high;
        if (r == rank_) pass(comm, r ^ step, lower ? high : low, lower ? low : high);
      }
      auto const had = holds_;
      for (int r = 0; r < active; ++r)
        for (auto i = ranges[static_cast<std::size_t>(r)].first; i < ranges[static_cast<std::size_t>(r)].last; ++i)
          holds(r, i) = holds(r, i) || had[static_cast<std::size_t>(r ^ step) * states_.size() + i];
    }
    return ranges;
  }
  void joined(int to, int from, layer_range range) {
    for (auto i = range.first; i < range.last; ++i) holds(to, i) = holds(to, i) || holds(from, i);
  }
  /// Gives the partner one range, and merges what it gives of the other.
  template <class C>
  void pass(C& comm, int partner, layer_range give, layer_range take) {
    std::vector<view> out, in;
    for (auto i = give.first; i < give.last; ++i)
      if (holds(rank_, i)) add(out, states_[i]);
    std::vector<std::size_t> which;
    for (auto i = take.first; i < take.last; ++i)
      if (holds(partner, i)) which.push_back(i);
    if (out.empty() && which.empty()) return;
    std::vector<matrix<T, B>> theirs;
    move_data(comm, [&] {
      for (auto const i : which)
        for (auto const* name : names) {
          auto const like = states_[i].matrix(name);
          theirs.emplace_back(be_, like.rows, like.cols);
          in.push_back(theirs.back().view());
        }
      exchange_views(be_, comm, std::span<view const>(out), std::span<view const>(in), partner);
    });
    for (std::size_t k = 0; k < which.size(); ++k)
      members_[which[k]]->join(be_, {in[3 * k], in[3 * k + 1], in[3 * k + 2]});
  }
  static void add(std::vector<view>& list, held_state<view> const& s) {
    for (auto const* name : names) list.push_back(s.matrix(name));
  }

  /// Weights and counts of all ranks, and their flags.
  void adopt(std::vector<std::vector<double>> const& all) {
    for (std::size_t i = 0; i < states_.size(); ++i) {
      double weight = 0, count = 0;
      int flags = states_[i].flags("flags");
      bool any = false;
      for (auto const& theirs : all) {
        weight += theirs[4 * i];
        count += theirs[4 * i + 1];
        flags |= static_cast<int>(theirs[4 * i + 2]);
        any = any || theirs[4 * i + 3] != 0;
      }
      states_[i].number("weight") = weight;
      states_[i].count("count") = static_cast<index_t>(count);
      states_[i].flags("flags") = flags;
      states_[i].truth("any") = any;
    }
  }
  /// Every rank gets every layer, as its last owner has it; flags of all.
  template <class C>
  void spread(C& comm, int active, std::vector<layer_range> const& owned, bucket_options options) {
    std::vector<double> mine;
    bool const own = rank_ < active;
    auto const range = own ? owned[static_cast<std::size_t>(rank_)] : layer_range{};
    for (std::size_t i = 0; i < states_.size(); ++i) {
      bool const has = range.first <= i && i < range.last;
      mine.insert(mine.end(), {static_cast<double>(states_[i].flags("flags")),
                               has ? states_[i].number("turn") : std::numeric_limits<double>::quiet_NaN()});
    }
    std::vector<std::vector<double>> all;
    for (auto const& text : agree(be_, comm, "the end of combine", {}, packed(mine)))
      all.push_back(unpacked<double>(text));
    for (std::size_t i = 0; i < states_.size(); ++i)
      for (auto const& theirs : all) states_[i].flags("flags") |= static_cast<int>(theirs[2 * i]);
    move_data(comm, [&] {
      for (int r = 0; r < active; ++r) {
        std::vector<view> list;
        for (auto i = owned[static_cast<std::size_t>(r)].first; i < owned[static_cast<std::size_t>(r)].last; ++i) {
          states_[i].number("turn") = all[static_cast<std::size_t>(r)][2 * i + 1];
          if (holds(r, i)) add(list, states_[i]);
        }
        if (!list.empty()) broadcast_views(be_, comm, std::span<view const>(list), r, options);
      }
    });
  }
};

/// combine for incremental estimates.
/// math    ranks beyond a power of two give theirs to a partner; then partners halve the layers between them, again and
///         again, each merging what it keeps; the last owner of a layer sends it to all. Every rank merges about as
///         many layers as there are, whatever the number of ranks
template <Backend B, class C, class T>
void merge_estimates(B& be, C& comm, std::span<incremental_gradient<B, T>* const> members, bucket_options options) {
  require_members(members);
  merging<B, T> all(be, comm, members);
  std::string lines = bucket_line(options);
  for (std::size_t i = 0; i < members.size(); ++i)
    lines += "layer " + std::to_string(i) + ": " + shape_text(members[i]->rows(), members[i]->cols()) + ", width " +
             std::to_string(members[i]->width()) + all.states()[i].settings() + "\n";
  all.run(comm, "combine(" + type_name<incremental_gradient<B, T>>() + ")", lines, options);
}

}  // namespace loraga::detail
