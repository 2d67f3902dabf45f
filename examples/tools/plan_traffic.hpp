#pragma once
#include <bit>
#include <functional>
#include <loraga/distributed/merge_estimates.hpp>

#include "plan_settings.hpp"

// Messages of loraga/distributed as its code makes them. `sent` counts as counted_communicator does: a ring's share.

namespace tools::plan {

/// What one rank does on the network.
struct messages {
  double all_reduces = 0, broadcasts = 0, exchanges = 0;
  double meetings = 0;  ///< all_gathers of a few bytes, which are not counted as sent
  double sent = 0;      ///< bytes

  messages& operator+=(messages const& o) { return add(o, 1); }
  messages& add(messages const& o, double times) {
    all_reduces += times * o.all_reduces, broadcasts += times * o.broadcasts, exchanges += times * o.exchanges;
    meetings += times * o.meetings, sent += times * o.sent;
    return *this;
  }
  double count() const { return all_reduces + broadcasts + exchanges; }
};

/// math  bytes/bandwidth + latency*(hops of every message), log2(ranks) hops for a broadcast or a meeting, twice as many
///       for an all_reduce, one for an exchange
inline double seconds_of(messages const& all, machine const& m, int ranks) {
  if (ranks == 1) return 0;
  double const hops = std::ceil(std::log2(ranks));
  return all.sent / m.bandwidth +
         m.latency * (hops * (2 * all.all_reduces + all.broadcasts + all.meetings) + all.exchanges);
}

/// A matrix that travels.
struct sent_matrix {
  index_t rows = 0, cols = 0;
};
inline double numbers_in(std::span<sent_matrix const> all) {
  double sum = 0;
  for (auto const& v : all) sum += static_cast<double>(v.rows) * static_cast<double>(v.cols);
  return sum;
}

/// How many messages for_each_bucket makes of packed matrices. Large ones go as they are, if they lie on the device.
inline double buckets_of(std::span<sent_matrix const> all, index_t bytes, index_t size = 4, bool on_device = true) {
  index_t room = std::max<index_t>(1, bytes / size), used = 0;
  double count = 0;
  for (auto const& v : all) room = std::max(room, v.rows);
  auto const flush = [&] {
    count += used > 0;
    used = 0;
  };
  for (auto const& v : all) {
    if (on_device && v.rows * v.cols >= room) {
      count += static_cast<double>((v.rows * v.cols + room - 1) / room);
      continue;
    }
    index_t const fit = std::min(v.cols, (room - used) / v.rows), each = room / v.rows;
    used += fit * v.rows;
    if (fit == v.cols) continue;
    flush();
    index_t const left = v.cols - fit, full = (left - 1) / each;
    count += static_cast<double>(full);
    used = (left - full * each) * v.rows;
  }
  flush();
  return count;
}

/// all_reduce_views
inline messages all_reduced(std::span<sent_matrix const> all, int ranks, index_t bytes, index_t size = 4,
                            bool on_device = true) {
  messages m;
  m.all_reduces = buckets_of(all, bytes, size, on_device);
  m.sent = 2 * (1 - 1.0 / ranks) * numbers_in(all) * static_cast<double>(size);
  return m;
}
/// broadcast_views, from one rank to the others
inline messages broadcast(std::span<sent_matrix const> all, int ranks, index_t bytes) {
  messages m;
  m.broadcasts = buckets_of(all, bytes);
  m.sent = (1 - 1.0 / ranks) * numbers_in(all) * 4;
  return m;
}

/// combine of sums: dense, sign and offloaded gradients, or what a second pass projected.
inline messages combine_sums(std::span<linear_layer const> layers, settings const& s, int ranks, accumulator a) {
  std::vector<sent_matrix> sums;
  for (auto const& l : layers) sums.push_back({l.out, a == accumulator::projected ? width_of(l, s) : l.in});
  auto all = all_reduced(sums, ranks, s.bucket_bytes, 4, a != accumulator::offloaded);
  all.meetings = 1;
  return all;
}
/// combine of input_statistics
inline messages combine_statistics(std::span<linear_layer const> layers, settings const& s, int ranks) {
  std::vector<sent_matrix> means, scatters;
  for (auto const& l : layers) means.push_back({l.in, 1}), scatters.push_back({l.in, l.in});
  auto all = all_reduced(means, ranks, s.bucket_bytes, 8);
  all += all_reduced(scatters, ranks, s.bucket_bytes);
  all.meetings = 1;
  return all;
}

/// U, S and V of some layers' estimates.
inline std::vector<sent_matrix> triplets_of(std::span<linear_layer const> layers, settings const& s) {
  std::vector<sent_matrix> all;
  for (auto const& l : layers) {
    index_t const w = width_of(l, s);
    all.insert(all.end(), {{l.out, w}, {w, 1}, {l.in, w}});
  }
  return all;
}

/// combine of incremental estimates: what every rank sends, and which layers it merges in each round.
struct merging_plan {
  std::vector<messages> by_rank;
  double seconds = 0, flop = 0;  ///< of merging: in each round those of the rank that merges most
};

/// The rounds of merge_estimates, where the first `busy` ranks have seen something. `merge_of(layer)` is the work of
/// one merge, with its seconds and flop().
template <class F>
merging_plan merge_rounds(std::span<linear_layer const> layers, settings const& s, int ranks, int busy,
                          F const& merge_of) {
  using range = loraga::detail::layer_range;
  auto const at = [](int r) { return static_cast<std::size_t>(r); };
  auto const cost = [&](std::size_t i) {
    return static_cast<double>((layers[i].out + layers[i].in) * width_of(layers[i], s));
  };
  std::vector<double> bytes{0}, seconds{0}, flop{0};  // of all layers before one
  for (auto const& l : layers) {
    auto const w = merge_of(l);
    bytes.push_back(bytes.back() + 4 * static_cast<double>(width_of(l, s) * (l.out + l.in + 1)));
    seconds.push_back(seconds.back() + w.seconds), flop.push_back(flop.back() + w.flop());
  }
  auto const sum = [](std::vector<double> const& before, range r) { return before[r.last] - before[r.first]; };
  auto const some = [](range r) { return r.first < r.last; };

  merging_plan plan;
  plan.by_rank.resize(at(ranks));
  int const active = static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks)));
  std::vector<char> holds(at(ranks));
  for (int r = 0; r < ranks; ++r) holds[at(r)] = r < busy;
  range const whole{0, layers.size()};
  for (auto& m : plan.by_rank) m.meetings = 2;  // before and after the rounds
  double most = 0, most_flop = 0;
  auto const merges = [&](range r) {
    most = std::max(most, sum(seconds, r)), most_flop = std::max(most_flop, sum(flop, r));
  };
  auto const end_round = [&] { plan.seconds += std::exchange(most, 0), plan.flop += std::exchange(most_flop, 0); };
  for (int r = active; r < ranks; ++r) {
    if (!holds[at(r)]) continue;
    plan.by_rank[at(r)].sent += sum(bytes, whole);
    ++plan.by_rank[at(r)].exchanges, ++plan.by_rank[at(r - active)].exchanges;
    if (holds[at(r - active)]) merges(whole);
    holds[at(r - active)] = true;
  }
  end_round();
  std::vector<range> mine(at(active), whole);
  for (int step = active / 2; step >= 1; step /= 2) {
    for (auto& m : plan.by_rank) ++m.meetings;
    auto const before = holds;
    range cut{0, 0};  // neighbours mostly have the same layers: these are cut once
    auto both = std::pair(cut, cut);
    for (int r = 0; r < active; ++r) {
      if (mine[at(r)].first != cut.first || mine[at(r)].last != cut.last) {
        cut = mine[at(r)];
        auto const [first, second] = loraga::detail::halves(cut, cost);
        both = {first, second};
      }
      auto const [low, high] = some(mine[at(r)]) ? both : std::pair(mine[at(r)], mine[at(r)]);
      auto const [give, take] = (r & step) == 0 ? std::pair(high, low) : std::pair(low, high);
      bool const have = before[at(r)], theirs = before[at(r ^ step)];
      if (have) plan.by_rank[at(r)].sent += sum(bytes, give);
      if ((have && some(give)) || (theirs && some(take))) ++plan.by_rank[at(r)].exchanges;
      if (have && theirs) merges(take);
      mine[at(r)] = take;
      holds[at(r)] = have || theirs;
    }
    end_round();
  }
  messages spread;
  for (auto const& r : mine)
    if (some(r)) spread += broadcast(triplets_of(layers.subspan(r.first, r.last - r.first), s), ranks, s.bucket_bytes);
  for (auto& m : plan.by_rank) m += spread;
  return plan;
}

/// Layers that wait in a streamed_gradient's queue together.
inline std::vector<std::span<linear_layer const>> queues(std::span<linear_layer const> layers, settings const& s) {
  std::vector<std::span<linear_layer const>> all;
  index_t numbers = 0;
  std::size_t first = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    index_t const w = width_of(layers[i], s);
    numbers += (layers[i].out + layers[i].in) * (w + loraga::detail::new_directions(w));
    if (numbers * 4 < s.bucket_bytes) continue;
    all.push_back(layers.subspan(first, i + 1 - first));
    numbers = 0, first = i + 1;
  }
  all.push_back(layers.subspan(first));  // what flush finds, perhaps nothing
  return all;
}
/// One micro-batch of a streamed_gradient, with its flush.
inline messages streamed_batch(std::span<linear_layer const> layers, settings const& s, int ranks, bool any) {
  messages all;
  for (auto const& queue : queues(layers, s)) {
    if (queue.empty()) {
      all.meetings += ranks > 1;
      continue;
    }
    std::vector<sent_matrix> left, right;
    std::vector<sent_matrix> const totals(queue.size(), {2, 1});  // of tokens' weights
    for (auto const& l : queue) left.push_back({l.out, columns_of(l, s)}), right.push_back({l.in, columns_of(l, s)});
    int const passes = 2 + (any ? s.power_steps : std::max(1, s.power_steps));
    all.add(all_reduced(totals, ranks, s.bucket_bytes), 1);
    all.add(all_reduced(left, ranks, s.bucket_bytes), passes / 2);
    all.add(all_reduced(right, ranks, s.bucket_bytes), (passes + 1) / 2);
    all.meetings += 2;
  }
  return all;
}

}  // namespace tools::plan
