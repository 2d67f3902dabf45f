#pragma once
#include <map>

#include "plan_estimate.hpp"
#include "plan_start_traffic.hpp"

// What a run of many ranks needs: predict. No files and no clocks, only formulas.

namespace tools::plan {

/// One rank's share of a run, with one accumulator on so many ranks.
struct prediction {
  int ranks = 1;
  plan::accumulator accumulator = accumulator::incremental;
  double weights = 0;           ///< bytes of the base
  double adapters = 0;          ///< bytes of A, B and their gradients
  double base_seconds = 0;      ///< of the estimate: the model's own passes, part of estimate.compute_seconds
  phase estimate, start, step;  ///< `step` is one of the training
  double training_seconds = 0;  ///< of all steps
  double dense_sent = 0;        ///< bytes that summing up dense gradients once sends, of ranks that share the data
};

namespace formulas {

/// The start of one layer from its accumulator: LoRA-GA's 2*rank triplets, of statistics EVA's rank.
inline work started(machine const& m, linear_layer const& l, settings const& s, accumulator a) {
  work all(m);
  index_t const k = 2 * s.rank;
  if (a == accumulator::statistics) {
    all += triplets(m, l.in, l.in, s.rank);
  } else if (a == accumulator::projected) {
    all += exact_triplets(m, l.out, width_of(l, s), k);
    all.product(l.in, k, width_of(l, s));
  } else if (is_summed(a)) {
    if (a == accumulator::sign) all.pass(2 * numbers_of(l));
    if (a == accumulator::offloaded) all.bus(4 * numbers_of(l));
    all += triplets(m, l.out, l.in, k);
  } else {
    all.pass(2 * of(k) * of(l.out + l.in));
  }
  all.pass(8 * of(s.rank) * of(l.out + l.in));  // made, placed, kept as an anchor
  return all;
}
inline double start_passes(linear_layer const& l, settings const& s, accumulator a) {
  if (a == accumulator::statistics) return svd_passes(l.in, l.in, s.rank);
  return is_summed(a) ? svd_passes(l.out, l.in, 2 * s.rank) : 0;
}

/// Tokens through an adapter with its frozen start, forth and back, and its share of AdamW's step.
inline work trained(machine const& m, linear_layer const& l, settings const& s, index_t all_tokens) {
  work all(m);
  index_t const tokens = tokens_of(l, all_tokens), r = s.rank;
  for (int pair = 0; pair < 2; ++pair) {  // A*X, B*H and back through them, with the start subtracted
    all.product(r, tokens, l.in), all.product(l.out, tokens, r);
    all.product(r, tokens, l.out), all.product(l.in, tokens, r);
  }
  all.product(l.out, r, tokens), all.product(r, l.in, tokens);  // gradients of B and A
  all.pass(7 * adapter_numbers(l, s));                          // AdamW: reads four numbers, writes three
  return all;
}

/// Bytes of scratch of one layer's start.
inline double start_scratch(linear_layer const& l, settings const& s, accumulator a) {
  if (a == accumulator::statistics) return svd_scratch(l.in, l.in, s.rank);
  if (a == accumulator::projected) return svd_scratch(l.out, width_of(l, s), 2 * s.rank);
  double const found = 4 * 2 * of(s.rank) * of(l.out + l.in);
  if (!is_summed(a)) return found;
  return found + svd_scratch(l.out, l.in, 2 * s.rank) + (a == accumulator::offloaded ? 4 * numbers_of(l) : 0);
}

/// initialise with over_ranks
inline phase start(std::span<linear_layer const> layers, settings const& s, machine const& m, accumulator a,
                   int ranks) {
  phase p;
  auto const owner = deal(layers, ranks);
  std::vector<phase> by_rank(static_cast<std::size_t>(ranks));
  std::vector<std::map<std::pair<index_t, index_t>, double>> signs(by_rank.size());  // of a shape: all at a time
  double largest = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    auto const maker = static_cast<std::size_t>(owner[i]);
    auto& mine = by_rank[maker];
    take(mine, started(m, l, s, a));
    p.passes = std::max(p.passes, start_passes(l, s, a));
    if (a == accumulator::sign) mine.scratch = std::max(mine.scratch, signs[maker][{l.out, l.in}] += 4 * numbers_of(l));
    largest = std::max(largest, start_scratch(l, s, a));
    p.kept += 4 * 2 * adapter_numbers(l, s);  // the new A and B, and the anchor's copy of them
  }
  for (auto const& mine : by_rank) {
    p.flop = std::max(p.flop, mine.flop);
    p.compute_seconds = std::max(p.compute_seconds, mine.compute_seconds);
    p.scratch = std::max(p.scratch, mine.scratch);
  }
  p.scratch += largest;
  p.network = shared_start(layers, s, ranks, owner);
  p.network_seconds = seconds_of(p.network, m, ranks);
  return p;
}

/// The parts' estimates become one, on the rank that makes the layer: joined_triplets.
inline work joined(machine const& m, linear_layer const& whole, linear_layer const& part, settings const& s,
                   int ranks) {
  work all(m);
  index_t const w = width_of(part, s), columns = w * ranks, side = whole.by_columns ? whole.out : whole.in;
  index_t k = std::min({columns, whole.out, whole.in});
  if (w < std::min(part.out, part.in)) k = std::min(k, w);
  all += exact_triplets(m, side, columns, k);
  all.product(whole.by_columns ? whole.in : whole.out, k, w);
  return all;
}
/// initialise_sharded: whole layers, a round of them at a time, one on each rank.
inline phase sharded_start(std::span<linear_layer const> layers, std::span<linear_layer const> parts, settings const& s,
                           machine const& m, accumulator a, int ranks) {
  phase p;
  auto const order = costliest_first(layers);
  for (std::size_t k = 0; k < order.size(); ++k) {
    auto const& l = layers[order[k]];
    auto const& part = parts[order[k]];
    if (k % static_cast<std::size_t>(ranks) == 0) {  // the costliest of its round: the others wait for it
      take(p, started(m, l, s, a == accumulator::offloaded ? accumulator::dense : a));
      if (!is_summed(a)) take(p, joined(m, l, part, s, ranks));
      if (a == accumulator::offloaded) {
        work home(m);
        home.bus(4 * numbers_of(part) * std::min(ranks, static_cast<int>(order.size() - k)));
        take(p, home);
      }
    }
    p.passes = std::max(p.passes, start_passes(l, s, a));
    double const whole = is_summed(a) ? 4 * numbers_of(l) : 4 * of(width_of(l, s)) * of(ranks + 1) * of(l.out + l.in);
    p.scratch = std::max(p.scratch, whole + 8 * part_numbers(part, s, a) + start_scratch(l, s, accumulator::dense) +
                                        (a == accumulator::sign ? whole : 0));
    p.kept += 4 * (adapter_numbers(l, s) + adapter_numbers(part, s));
  }
  p.network = plan::sharded_start(layers, s, ranks, 0, a);
  p.network_seconds = seconds_of(p.network, m, ranks);
  return p;
}

/// One step of the training. `ranks` cut the layers where `cut` says so, else they share the tokens.
inline phase step(model_shapes const& model, std::span<linear_layer const> layers, settings const& s, machine const& m,
                  int ranks, bool cut, double weights) {
  phase p;
  index_t const tokens = cut ? s.step_tokens : (s.step_tokens + ranks - 1) / ranks;
  take(p, base_pass(m, model, of(tokens), weights, cut ? ranks : 1));
  work copies(m);  // of gradients, into a message and back
  for (auto const& l : layers) {
    take(p, trained(m, l, s, tokens));
    if (ranks > 1) copies.pass(4 * adapter_numbers(l, s));
    // beside A, B and their gradients: two moments, the frozen start, and what travels in one message
    p.kept += 4 * adapter_numbers(l, s) * (ranks > 1 ? 4 : 3);
    p.scratch = std::max(p.scratch, 4 * 3 * of(s.rank) * of(tokens_of(l, tokens)));
  }
  take(p, copies);
  p.network = cut ? summed_replicated(layers, s, ranks) : averaged(layers, s, ranks);
  p.network_seconds = seconds_of(p.network, m, ranks);
  return p;
}

}  // namespace formulas

/// errors  value_error for what no run could have, by name of the option
inline void require_possible(model_shapes const& model, settings const& s, machine const& m, accumulator a, int ranks) {
  check(model.layers, s, m, ranks);
  if (s.split == split_by::data || ranks == 1) return;
  if (!joins_parts(a))
    raise<value_error>("loraga_plan", "--accumulators", name_of(a) + " with --split tensor",
                       "dense, sign, offloaded, incremental or background: no start joins parts of others");
  largest_parts(model.layers, ranks);
}

/// What one rank of `ranks` needs for an estimate by `a`, LoRA-GA's start from it (EVA's from statistics) and the
/// training. Of tensor parallel ranks the sums of activations that the model makes anyway are not counted.
/// errors  require_possible's
inline prediction predict(model_shapes const& model, settings const& s, machine const& m, accumulator a, int ranks) {
  require_possible(model, s, m, a, ranks);
  bool const cut = s.split == split_by::tensor && ranks > 1;
  auto const layers = cut ? largest_parts(model.layers, ranks) : model.layers;
  prediction p;
  p.ranks = ranks, p.accumulator = a;
  p.weights = (model.stored_bytes > 0 ? model.stored_bytes : model.parameters * s.weight_bits / 8) / (cut ? ranks : 1);
  for (auto const& l : layers) {
    p.adapters += 4 * 2 * adapter_numbers(l, s);
    if (!cut) p.dense_sent += 2 * (1 - 1.0 / ranks) * 4 * numbers_of(l);
  }
  p.estimate = formulas::estimate(model, layers, s, m, a, ranks, cut, p.weights, p.base_seconds);
  p.start =
      cut ? formulas::sharded_start(model.layers, layers, s, m, a, ranks) : formulas::start(layers, s, m, a, ranks);
  p.step = formulas::step(model, layers, s, m, ranks, cut, p.weights);
  p.training_seconds = static_cast<double>(s.steps) * p.step.seconds();
  return p;
}

}  // namespace tools::plan
