#pragma once
#include <loraga/distributed/tensor_parallel.hpp>

#include "../support/ranks.hpp"

// A model whose layers are cut among ranks, and the same model whole.

namespace test::cut_model {

using namespace loraga;

/// Layers of the whole model: sizes that no number of ranks here divides, cut by rows and by columns.
struct cut_layer {
  index_t out, in;
  shard_side side;
};
inline cut_layer const cut_layers[] = {{29, 40, shard_side::rows},
                                       {24, 31, shard_side::columns},
                                       {34, 18, shard_side::rows},
                                       {19, 45, shard_side::columns},
                                       {29, 40, shard_side::columns}};
constexpr index_t r = 4, tokens = 12;
using low_rank = lora<float, backend>;

/// dY or X of a micro-batch of a layer. Gradients are a sum of falling directions, and noise that is far below them.
inline host activation_of(std::size_t l, int batch, bool left) {
  auto const& c = cut_layers[l];
  index_t const rows = left ? c.out : c.in;
  auto const seed = 40 * l + 4 * static_cast<std::uint64_t>(batch) + (left ? 1 : 2);
  auto const directions = orthonormal(rows, tokens, 1000 + 2 * l + left);
  auto const sizes = diagonal(tokens, tokens, geometric(tokens, left ? 0.7 : 1.0, 30));
  host const mixed = identity(tokens) + random(tokens, tokens, seed, 0.05);
  return directions * sizes * mixed + random(rows, tokens, seed + 2000, 1e-4);
}
/// A part of something with as many rows as W, or as W has columns.
inline host cut(shard const& p, host const& of, bool left) {
  return p.by_rows() == left ? rows(of, p.first, p.count) : of;
}
inline host weight_part(shard const& p, host const& w) {
  return p.by_rows() ? rows(w, p.first, p.count) : columns(w, p.first, p.count);
}
inline host weight_of_layer(std::size_t l) { return random(cut_layers[l].out, cut_layers[l].in, 500 + l); }

template <class C>
shard part_of(std::size_t l, C const& comm) {
  auto const& c = cut_layers[l];
  return even_shard(c.side, c.out, c.in, comm.rank(), comm.size());
}
template <class C>
shard whole_of(std::size_t l, C const&) {
  auto const& c = cut_layers[l];
  return even_shard(c.side, c.out, c.in, 0, 1);
}

/// A model of such layers: all of W, or this rank's parts.
template <class G>
struct model {
  std::vector<shard> parts;
  std::vector<low_rank> adapters;
  std::vector<G> gradients;
  std::vector<matrix<float, backend>> weights;
  std::vector<sharded_layer<low_rank, matrix_view<float, space>, G>> layers;

  template <class P>
  model(backend& be, P const& part_of) {
    for (std::size_t l = 0; l < std::size(cut_layers); ++l) {
      auto const& p = parts.emplace_back(part_of(l));
      of_whole const scaling{rank_stable_scaling{}, p};
      adapters.emplace_back(be, p.out(), p.in(), r, scaling);
      gradient_options const options{.rank = r};
      auto& g = gradients.emplace_back(be, p.out(), p.in(), options);
      for (int batch = 0; batch < 3; ++batch) {
        auto const dy = upload<float>(be, cut(p, activation_of(l, batch, true), true));
        auto const x = upload<float>(be, cut(p, activation_of(l, batch, false), false));
        g.add_outer(be, dy.view(), x.view(), 1.0 + batch);
      }
      weights.push_back(upload<float>(be, weight_part(p, weight_of_layer(l))));
    }
    for (std::size_t l = 0; l < parts.size(); ++l)
      layers.push_back({&adapters[l], parts[l], weights[l].view(), &gradients[l], "layer " + std::to_string(l)});
  }
  /// The same for `initialise`, where parts are wholes.
  auto plain() {
    std::vector<layer<low_rank, matrix_view<float, space>, G>> all;
    for (auto const& l : layers) all.push_back({l.adapter, l.weight, l.source, l.name});
    return all;
  }
};

inline double difference(host const& a, host const& b) { return distance(a, b) / (1e-30 + largest(b)); }

}  // namespace test::cut_model
