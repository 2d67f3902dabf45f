#pragma once
#include "plan_traffic.hpp"
#include "plan_work.hpp"

// What an estimate needs of one rank: memory, operations, messages and time.

namespace tools::plan {

/// One phase on the rank that has most to do.
struct phase {
  double kept = 0;     ///< bytes beside the model, from call to call
  double on_host = 0;  ///< the same in the host's memory, where offloaded gradients are
  double scratch = 0;  ///< bytes more while it works, the largest at a time
  double flop = 0;
  double compute_seconds = 0, network_seconds = 0;
  messages network;
  double passes = 0;  ///< estimate: over the sample; start: over a gradient, of the layer that takes most

  double seconds() const { return compute_seconds + network_seconds; }
};

namespace formulas {

inline double of(index_t n) { return static_cast<double>(n); }
/// A frozen base, forward and backward to the inputs; its weights are read twice.
inline work base_pass(machine const& m, model_shapes const& model, double tokens, double bytes, int cut) {
  work all(m);
  all.products = 4 * model.active * tokens / cut;
  all.seconds = std::max(all.products / m.flops, 2 * bytes / m.memory_bandwidth);
  return all;
}

/// One micro-batch into one layer's accumulator.
inline work added(machine const& m, linear_layer const& l, settings const& s, accumulator a, bool any) {
  work all(m);
  index_t const tokens = tokens_of(l, s.tokens);
  if (is_summed(a)) {
    all.product(l.out, l.in, tokens);
    if (a == accumulator::offloaded) all.bus(4 * numbers_of(l));
  } else if (a == accumulator::statistics) {
    all.pass(2 * of(l.in) * of(tokens));
    all.product(l.in, l.in, tokens);
    all.pass(2 * of(l.in) * of(l.in));
  } else {
    if (a == accumulator::background) all.pass(2 * of(l.out + l.in) * of(tokens));
    if (a == accumulator::streamed) all.pass(2 * of(l.out + l.in) * of(tokens));
    all += incremental_update(m, l, s, tokens, any);
  }
  return all;
}
/// The same in a second pass, within the directions of the first.
inline work projected(machine const& m, linear_layer const& l, settings const& s) {
  work all(m);
  index_t const tokens = tokens_of(l, s.tokens), w = width_of(l, s);
  all.product(tokens, w, l.in);
  all.product(l.out, w, tokens);
  return all;
}

/// Bytes that an accumulator of one layer keeps.
inline double kept(linear_layer const& l, settings const& s, accumulator a) {
  double const w = of(width_of(l, s)), sides = of(l.out + l.in);
  switch (a) {
    case accumulator::statistics:
      return 4 * of(l.in) * of(l.in) + 8 * of(l.in);
    case accumulator::projected:
      return 4 * w * (sides + 1) + 4 * w * sides;  // the first pass' and its own
    case accumulator::incremental:
    case accumulator::background:
    case accumulator::streamed:
      return 4 * w * (sides + 1);
    default:
      return 4 * numbers_of(l);
  }
}
/// Bytes of scratch of one layer's update.
inline double update_scratch(linear_layer const& l, settings const& s, index_t tokens) {
  index_t const w = width_of(l, s), c = columns_of(l, s);
  double const blocks = of(2 * c * (l.out + l.in) + w * (l.out + l.in + 1));  // y, q, z and the start; what is found
  double const ritz = 4 * of(w) * of(l.in) + gram_scratch(l.in, w);
  return 4 * blocks + std::max({4 * of(c) * of(tokens), gram_scratch(std::max(l.out, l.in), c), ritz});
}
/// Bytes of scratch while a micro-batch is added, or estimates are combined: the largest at a time.
inline double estimate_scratch(std::span<linear_layer const> layers, settings const& s, accumulator a, int ranks) {
  double most = 0, largest = 0, all = 0;
  for (auto const& l : layers) {
    double const tokens = of(tokens_of(l, s.tokens)), sides = of(l.out + l.in);
    double one = 0;
    if (a == accumulator::statistics) one = 4 * of(l.in) * tokens;
    else if (keeps_triplets(a)) one = update_scratch(l, s, tokens_of(l, s.tokens));
    else if (a == accumulator::offloaded) one = 2 * std::min(4 * numbers_of(l), of(index_t{32} << 20));
    if (a == accumulator::background) largest = std::max(largest, 2 * 4 * tokens * sides);  // slots
    most = std::max(most, one);
    all += kept(l, s, a);
  }
  if (a == accumulator::streamed)
    for (auto const& queue : queues(layers, s)) {
      double sum = 0;
      for (auto const& l : queue) {
        index_t const tokens = tokens_of(l, s.tokens);
        sum += 4 * of(tokens) * of(l.out + l.in) + update_scratch(l, s, tokens);
      }
      most = std::max(most, sum);
    }
  most += largest;
  if (ranks == 1) return most;
  double const bucket = std::min(all, of(s.bucket_bytes));
  if (a == accumulator::streamed) return most + bucket;
  // partners exchange half of what they keep; each way it is copied once
  return std::max(most, keeps_triplets(a) ? 1.5 * all : bucket);
}

inline void take(phase& p, work const& w, double times = 1) {
  p.flop += times * w.flop();
  p.compute_seconds += times * w.seconds;
}

inline phase estimate(model_shapes const& model, std::span<linear_layer const> layers, settings const& s,
                      machine const& m, accumulator a, int ranks, bool cut, double weights, double& base_seconds) {
  phase p;
  index_t const rounds = cut ? s.batches : (s.batches + ranks - 1) / ranks;  // cut: every rank sees every micro-batch
  p.passes = a == accumulator::projected ? 2 : 1;
  auto const base = base_pass(m, model, of(s.tokens), weights, cut ? ranks : 1);
  take(p, base, p.passes * of(rounds));
  base_seconds = p.compute_seconds;
  for (auto const& l : layers) {
    take(p, added(m, l, s, a, false));
    take(p, added(m, l, s, a, true), of(rounds - 1));
    if (a == accumulator::projected) take(p, projected(m, l, s), of(rounds));
    (a == accumulator::offloaded ? p.on_host : p.kept) += kept(l, s, a);
  }
  p.scratch = estimate_scratch(layers, s, a, cut ? 1 : ranks);
  if (cut) return p;  // parts come together at the start
  if (is_summed(a)) {
    p.network = combine_sums(layers, s, ranks, a);
  } else if (a == accumulator::statistics) {
    p.network = combine_statistics(layers, s, ranks);
  } else if (a == accumulator::streamed) {
    p.network = streamed_batch(layers, s, ranks, false);
    p.network.add(streamed_batch(layers, s, ranks, true), of(rounds - 1));
  } else {
    int const busy = static_cast<int>(std::min<index_t>(ranks, s.batches));
    auto const merged = merge_rounds(layers, s, ranks, busy, [&](linear_layer const& l) { return merge(m, l, s); });
    p.network = *std::max_element(merged.by_rank.begin(), merged.by_rank.end(),
                                  [](auto const& x, auto const& y) { return x.sent < y.sent; });
    p.flop += merged.flop;
    p.compute_seconds += merged.seconds;
    if (a == accumulator::projected) p.network += combine_sums(layers, s, ranks, a);
  }
  work copies(m);  // into a bucket and back
  copies.pass(ranks > 1 ? p.network.sent : 0);
  take(p, copies);
  p.network_seconds = seconds_of(p.network, m, ranks);
  return p;
}

}  // namespace formulas

}  // namespace tools::plan
