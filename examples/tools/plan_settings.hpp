#pragma once
#include <algorithm>
#include <cmath>
#include <loraga/gradient/first_look.hpp>
#include <span>
#include <string>
#include <vector>

// What loraga_plan is asked: a model's shapes, how it is trained, and what a machine can do.

namespace tools::plan {

using namespace loraga;

/// A linear layer that gets an adapter. W is out x in.
struct linear_layer {
  std::string name;
  index_t out = 0, in = 0;
  double share = 1;  ///< of a micro-batch's tokens that reach it: 2/8 for one of eight experts, two of which work
  bool by_columns = false;  ///< tensor parallel ranks cut its inputs, not its outputs
};

/// A model by its sizes alone.
struct model_shapes {
  std::string name;
  std::vector<linear_layer> layers;  ///< with an adapter
  double parameters = 0;             ///< of the whole model
  double active = 0;                 ///< parameters of products that a token goes through: no embeddings, some experts
  double stored_bytes = 0;           ///< of its weights, as its files have them; 0 if it was not read from files
};

enum class split_by { data, tensor };
enum class accumulator { dense, sign, offloaded, incremental, background, projected, streamed, statistics };

inline std::vector<std::pair<std::string, accumulator>> const& accumulators() {
  using enum accumulator;
  static std::vector<std::pair<std::string, accumulator>> const all{
      {"dense", dense},           {"sign", sign},           {"offloaded", offloaded}, {"incremental", incremental},
      {"background", background}, {"projected", projected}, {"streamed", streamed},   {"statistics", statistics}};
  return all;
}
inline std::string const& name_of(accumulator a) { return accumulators()[static_cast<std::size_t>(a)].first; }
/// Whether it sums up whole gradients.
inline bool is_summed(accumulator a) {
  return a == accumulator::dense || a == accumulator::sign || a == accumulator::offloaded;
}
/// Whether a layer's parts on tensor parallel ranks can be put together for a start.
inline bool joins_parts(accumulator a) {
  return is_summed(a) || a == accumulator::incremental || a == accumulator::background;
}
/// Whether it keeps an incremental estimate, from which a start takes its triplets as they are.
inline bool keeps_triplets(accumulator a) {
  using enum accumulator;
  return a == incremental || a == background || a == projected || a == streamed;
}

struct settings {
  index_t rank = 8;
  index_t width = 0;  ///< triplets kept, 0: 4*rank
  int power_steps = 0;
  index_t tokens = 4096;        ///< of a micro-batch
  index_t batches = 8;          ///< micro-batches of the estimate, dealt out over ranks
  index_t steps = 1000;         ///< of the training
  index_t step_tokens = 65536;  ///< of all ranks in a step
  split_by split = split_by::data;
  double weight_bits = 16;                   ///< of the base's numbers, where no file tells
  index_t bucket_bytes = index_t{32} << 20;  ///< see bucket_options
};

/// What one rank can do, per second. Zeros follow from the others.
struct machine {
  double flops = 1e14;             ///< of products of large matrices
  double thin_flops = 0;           ///< of products with a side of at most 128; 0: as flops
  double double_flops = 0;         ///< of Gram matrices in double; 0: a tenth of flops
  double small_flops = 1e9;        ///< of eigenvalue problems of a few dozen rows, which do not fill it
  double memory_bandwidth = 2e12;  ///< bytes
  double bandwidth = 2.5e10;       ///< bytes that one rank sends over the network
  double latency = 2e-5;           ///< seconds that a message takes beside its bytes, from one rank to another
  double bus_bandwidth = 2.5e10;   ///< bytes between device and host

  double thin() const { return thin_flops > 0 ? thin_flops : flops; }
  double in_double() const { return double_flops > 0 ? double_flops : flops / 10; }
};

inline index_t width_of(linear_layer const& l, settings const& s) {
  return std::min({s.width > 0 ? s.width : 4 * s.rank, l.out, l.in});
}
/// Columns that an incremental update works with.
inline index_t columns_of(linear_layer const& l, settings const& s) {
  index_t const w = width_of(l, s);
  return std::min({w + loraga::detail::new_directions(w), l.out, l.in});
}
/// Tokens of a micro-batch that reach a layer.
inline index_t tokens_of(linear_layer const& l, index_t tokens) {
  return std::max<index_t>(1, static_cast<index_t>(std::ceil(l.share * static_cast<double>(tokens))));
}
inline double numbers_of(linear_layer const& l) { return static_cast<double>(l.out) * static_cast<double>(l.in); }
/// Numbers of A and B.
inline double adapter_numbers(linear_layer const& l, settings const& s) {
  return static_cast<double>(s.rank) * static_cast<double>(l.out + l.in);
}

/// The layers as a tensor parallel rank with the largest parts has them: some of the outputs, or of the inputs.
/// errors  value_error for a side with fewer rows or columns than ranks
inline std::vector<linear_layer> largest_parts(std::span<linear_layer const> layers, int ranks) {
  std::vector<linear_layer> parts(layers.begin(), layers.end());
  for (auto& l : parts) {
    auto& side = l.by_columns ? l.in : l.out;
    if (side < ranks)
      raise<value_error>(
          "loraga_plan", "--ranks", std::to_string(ranks) + " with --split tensor",
          "at most " + std::to_string(side) + ", the " + (l.by_columns ? "inputs of " : "outputs of ") + l.name);
    side = (side + ranks - 1) / ranks;
  }
  return parts;
}

/// errors  value_error for what no training could have, by name of the option
inline void check(std::span<linear_layer const> layers, settings const& s, machine const& m, int ranks) {
  auto const at_least = [](auto value, auto least, char const* option) {
    if (value < least)
      raise<value_error>("loraga_plan", option, std::to_string(value), std::to_string(least) + " or more");
  };
  at_least(ranks, 1, "--ranks");
  if (ranks > 1 << 20) raise<value_error>("loraga_plan", "--ranks", std::to_string(ranks), "at most 1048576");
  at_least(s.rank, index_t{1}, "--rank");
  at_least(s.tokens, index_t{1}, "--tokens");
  at_least(s.batches, index_t{1}, "--batches");
  at_least(s.power_steps, 0, "--power-steps");
  at_least(s.steps, index_t{1}, "--steps");
  at_least(s.step_tokens, index_t{1}, "--step-tokens");
  at_least(s.bucket_bytes, index_t{4}, "--bucket");
  if (s.width != 0) at_least(s.width, 2 * s.rank, "--width");  // LoRA-GA asks for 2*rank triplets
  auto const positive = [](double value, char const* option) {
    if (!(value > 0) || !std::isfinite(value))
      raise<value_error>("loraga_plan", option, std::to_string(value), "a positive finite number");
  };
  positive(m.flops, "--flops"), positive(m.thin(), "--thin-flops"), positive(m.in_double(), "--double-flops");
  positive(m.small_flops, "--small-flops"), positive(m.memory_bandwidth, "--memory-bandwidth");
  positive(m.bandwidth, "--bandwidth"), positive(m.bus_bandwidth, "--bus"), positive(s.weight_bits, "--bits");
  if (!(m.latency >= 0) || !std::isfinite(m.latency))
    raise<value_error>("loraga_plan", "--latency", std::to_string(m.latency), "a finite number, 0 or more");
  if (layers.empty()) raise<value_error>("loraga_plan", "MODEL", "without a layer", "one or more");
  for (auto const& l : layers)
    if (2 * s.rank > std::min(l.out, l.in))
      raise<value_error>(
          "loraga_plan", "--rank", std::to_string(s.rank) + ": LoRA-GA takes twice as many triplets",
          "at most half of " + std::to_string(std::min(l.out, l.in)) + ", the smaller side of " + l.name);
}

}  // namespace tools::plan
