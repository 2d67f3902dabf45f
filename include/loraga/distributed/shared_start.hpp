#pragma once
#include <loraga/distributed/buckets.hpp>
#include <loraga/initialise.hpp>

namespace loraga {

namespace detail {

/// Every rank gets A, B and flags of all layers from those who made them.
/// errors  rank_error, the same on every rank, where `what` or `lines` differ
template <Backend B, class C, class L, class N>
void hand_round(B& be, C& comm, std::span<L const> layers, std::vector<int> const& owner, std::vector<N>& all,
                std::string const& what, std::string const& lines, bucket_options options) {
  using view = matrix_view<typename layer_parts<L>::adapter::value_type, typename B::space>;
  std::vector<int> flags;
  for (std::size_t i = 0; i < layers.size(); ++i)
    if (owner[i] == comm.rank()) flags.push_back(all[i].flags);
  auto const brought = agree(be, comm, what, bucket_line(options) + lines, packed(flags));
  std::vector<std::vector<view>> made(brought.size());
  std::vector<std::size_t> next(brought.size(), 0), to_hand;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const r = static_cast<std::size_t>(owner[i]);
    all[i].flags = unpacked<int>(brought[r])[next[r]++];
    if (all[i].flags != svd_usable) continue;
    to_hand.push_back(i);
  }
  move_data(comm, [&] {
    for (auto const i : to_hand) {
      auto const& ad = *layers[i].adapter;
      if (owner[i] != comm.rank()) all[i].a = {be, ad.in(), ad.rank()}, all[i].b = {be, ad.out(), ad.rank()};
      made[static_cast<std::size_t>(owner[i])].insert(made[static_cast<std::size_t>(owner[i])].end(),
                                                      {all[i].a.view(), all[i].b.view()});
    }
    for (std::size_t r = 0; r < made.size(); ++r)
      broadcast_views(be, comm, std::span<view const>(made[r]), static_cast<int>(r), options);
  });
}

}  // namespace detail

/// An argument of `initialise` by which ranks share a start: layers are dealt out by cost, each is made by one rank and
/// sent to all. Every rank gives the same layers in the same order, with accumulators that hold the same (see combine),
/// and ends with the same bits: those of one process.
///   initialise(be, layers, lora_ga_init{}, automatic_svd{}, frozen_pair_anchor{}, over_ranks(comm));
/// errors  rank_error, the same on every rank, if one of them fails, or gives other layers, another anchor or initialiser,
///         or one with other settings (these are compared where the compiler can: g++, on the host); else those of
///         initialise, on all
/// cost    about 1/ranks of the SVDs; A and B of all layers over the network
template <class C>
class over_ranks {
  C* comm_;
  bucket_options options_;

 public:
  static constexpr bool shares_starts = true;  ///< by which initialise knows it
  explicit over_ranks(C& comm, bucket_options options = {}) : comm_(&comm), options_(options) {}

  /// What all ranks do alike.
  template <Backend B, class F>
  void together(B& be, F const& work) const {
    loraga::together(be, *comm_, work, "initialise over_ranks");
  }
  /// Makes this rank's share, and hands round everyone's.
  template <Backend B, class L, class I, class X, class N, class F>
  void share(B& be, std::span<L const> layers, I const& init, X const&, std::vector<N>& all, F const& make) const {
    auto const owner = deal(layers);
    std::vector<std::size_t> mine;
    for (std::size_t i = 0; i < layers.size(); ++i)
      if (owner[i] == comm_->rank()) mine.push_back(i);
    loraga::together(
        be, *comm_, [&] { make(mine); }, "the SVDs of initialise over_ranks");
    auto const what = "initialise by " + detail::type_name<I>() + " and " + detail::type_name<X>();
    auto const settings =
        "settings of the initialiser with check sum " + std::to_string(detail::settings_of(init)) + "\n";
    detail::hand_round(be, *comm_, layers, owner, all, what, settings + lines(layers), options_);
  }

 private:
  /// Which rank makes which layer: the costliest first, each to whom has least to do.
  template <class L>
  std::vector<int> deal(std::span<L const> layers) const {
    std::vector<double> cost;
    std::vector<std::size_t> order;
    for (auto const& l : layers) {
      order.push_back(order.size());
      cost.push_back(static_cast<double>(l.adapter->out()) * static_cast<double>(l.adapter->in()));
    }
    std::stable_sort(order.begin(), order.end(), [&](auto x, auto y) { return cost[x] > cost[y]; });
    std::vector<double> load(static_cast<std::size_t>(comm_->size()), 0.0);
    std::vector<int> owner(layers.size());
    for (auto const i : order) {
      auto const least = std::min_element(load.begin(), load.end());
      owner[i] = static_cast<int>(least - load.begin());
      *least += cost[i];
    }
    return owner;
  }
  template <class L>
  static std::string lines(std::span<L const> layers) {
    std::string text;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      auto const& ad = *layers[i].adapter;
      text += layers[i].label(i) + ": " + shape_text(ad.out(), ad.in()) + ", rank " + std::to_string(ad.rank()) +
              ", s with bits " + std::to_string(bits_as<std::uint64_t>(ad.scale())) + ", " +
              detail::type_name<typename detail::layer_parts<L>::adapter::value_type>() + "\n";
    }
    return text;
  }
};

}  // namespace loraga
