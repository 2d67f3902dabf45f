#pragma once
#include <filesystem>
#include <loraga/initialise.hpp>
#include <loraga/io/checkpoint.hpp>
#include <vector>

#include "../model/loss.hpp"

namespace training {

using loraga::index_t;

/// Who trains: here one process, which has all the data. rank_group (ranks.hpp) has the same members for many, so that
/// the training is one text. Nothing of this costs anything.
struct one_process {
  static constexpr int rank() { return 0; }
  static constexpr int size() { return 1; }

  /// This process' part of a batch, and of n items.
  static std::vector<index_t> const& share(std::vector<index_t> const& items) { return items; }
  static std::pair<index_t, index_t> share(index_t n) { return {0, n}; }

  /// What all of them measured, together.
  template <class B>
  model::loss_result total(B&, model::loss_result const& mine) const {
    return mine;
  }
  /// The mean of a number over those that have one.
  template <class B>
  double mean(B&, double value, bool) const {
    return value;
  }
  /// What rank 0 says.
  template <class B>
  bool decide(B&, bool mine) const {
    return mine;
  }
  /// Accumulators get what all of them saw.
  template <class B, class G>
  void combine(B&, G&) const {}
  /// loraga::initialise, its work shared.
  template <class B, class L, class... How>
  void initialise(B& be, L&& layers, How const&... how) const {
    loraga::initialise(be, layers, how...);
  }
  /// Gradients become the mean over all of them, each with its weight.
  template <class B>
  struct gradient_mean {
    template <class G>
    void add(G&&) {}
    void run(B&, one_process const&, index_t) {}
  };
  template <class B, class F>
  void save(B& be, std::filesystem::path const& path, F const& items) const {
    loraga::save_checkpoint(be, path, items);
  }
  template <class B, class F>
  void load(B& be, std::filesystem::path const& path, F const& items) const {
    loraga::load_checkpoint(be, path, items);
  }
};

}  // namespace training
