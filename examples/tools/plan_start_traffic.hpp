#pragma once
#include <loraga/distributed/shard.hpp>
#include <queue>

#include "plan_traffic.hpp"

// Messages of starts and of training steps.

namespace tools::plan {

/// The order in which starts are made.
inline std::vector<std::size_t> costliest_first(std::span<linear_layer const> layers) {
  std::vector<std::size_t> order(layers.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](auto x, auto y) { return numbers_of(layers[x]) > numbers_of(layers[y]); });
  return order;
}
/// Which rank makes which layer, as over_ranks deals them out.
inline std::vector<int> deal(std::span<linear_layer const> layers, int ranks) {
  std::priority_queue<std::pair<double, int>, std::vector<std::pair<double, int>>, std::greater<>> least;  // load, rank
  for (int r = 0; r < ranks; ++r) least.push({0.0, r});
  std::vector<int> owner(layers.size());
  for (auto const i : costliest_first(layers)) {
    auto const [load, rank] = least.top();
    least.pop();
    owner[i] = rank;
    least.push({load + numbers_of(layers[i]), rank});
  }
  return owner;
}
/// A and B of every layer from the rank that made it, to all.
inline messages handed_round(std::span<linear_layer const> layers, settings const& s, int ranks,
                             std::span<int const> owner, index_t bucket_bytes) {
  std::vector<std::vector<sent_matrix>> made(static_cast<std::size_t>(ranks));
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto& list = made[static_cast<std::size_t>(owner[i])];
    list.insert(list.end(), {{layers[i].in, s.rank}, {layers[i].out, s.rank}});
  }
  messages all;
  for (auto const& list : made) all += broadcast(list, ranks, bucket_bytes);
  return all;
}
/// initialise with over_ranks.
inline messages shared_start(std::span<linear_layer const> layers, settings const& s, int ranks,
                             std::span<int const> owner) {
  auto all = handed_round(layers, s, ranks, owner, s.bucket_bytes);
  all.meetings = 4;
  return all;
}
/// gradient_average::run
inline messages averaged(std::span<linear_layer const> layers, settings const& s, int ranks) {
  messages all;
  for (auto const& l : layers) all.sent += 2 * (1 - 1.0 / ranks) * 4 * adapter_numbers(l, s);
  all.all_reduces = all.meetings = 1;
  return all;
}

/// A tensor parallel rank's part of a layer.
inline linear_layer part_of(linear_layer const& l, int rank, int ranks) {
  auto const part = even_shard(l.by_columns ? shard_side::columns : shard_side::rows, l.out, l.in, rank, ranks);
  linear_layer cut = l;
  cut.out = part.out(), cut.in = part.in();
  return cut;
}
/// Numbers of a part's estimate, as they travel to who makes the layer.
inline double part_numbers(linear_layer const& part, settings const& s, accumulator a) {
  if (is_summed(a)) return numbers_of(part);
  return static_cast<double>(width_of(part, s) * (part.out + 1 + part.in));
}
/// initialise_sharded on one of the ranks, which make `ranks` layers at a time: parts of estimates go to who makes the
/// layer, A and B of the whole to all.
inline messages sharded_start(std::span<linear_layer const> layers, settings const& s, int ranks, int rank,
                              accumulator a) {
  auto const order = costliest_first(layers);
  auto const size = static_cast<std::size_t>(ranks), mine = static_cast<std::size_t>(rank);
  std::vector<int> owner(layers.size());
  for (std::size_t k = 0; k < order.size(); ++k) owner[order[k]] = static_cast<int>(k % size);
  auto all = handed_round(layers, s, ranks, owner, bucket_options{}.bytes);
  all.meetings = 3;
  for (std::size_t first = 0; first < order.size(); first += size) {
    std::size_t const in_round = std::min(size, order.size() - first);
    for (std::size_t k = 0; k < in_round; ++k)
      if (k != mine) all.sent += 4 * part_numbers(part_of(layers[order[first + k]], rank, ranks), s, a);
    all.exchanges += static_cast<double>(mine < in_round ? size - 1 : in_round);
    all.meetings += 2;
  }
  return all;
}
/// sum_replicated: gradients of the factors that are not cut.
inline messages summed_replicated(std::span<linear_layer const> layers, settings const& s, int ranks) {
  std::vector<sent_matrix> factors;
  for (auto const& l : layers) factors.push_back({l.by_columns ? l.out : l.in, s.rank});
  auto all = all_reduced(factors, ranks, s.bucket_bytes);
  all.meetings = 1;
  return all;
}

}  // namespace tools::plan
