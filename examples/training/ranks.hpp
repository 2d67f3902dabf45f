#pragma once
#include <loraga/distributed.hpp>
#include <loraga/io/rank_checkpoint.hpp>

#include "one_process.hpp"

namespace training {

/// Part `rank` of n things that lie in a row, and how many: parts differ by one at most.
inline std::pair<index_t, index_t> part_of(index_t n, int rank, int size) {
  index_t const r = rank, less = n / size, more = n % size;
  return {r * less + std::min(r, more), less + (r < more ? 1 : 0)};
}

/// Who trains: the ranks of a loraga::Communicator. All of them draw the same batches, and each looks at its part of
/// every batch. Losses are added in the order of ranks and gradients averaged, so that all ranks hold the same model
/// and decide alike. Borrows the communicator. Put a program's work into loraga::together.
template <class C>
class rank_group {
  C* comm_;

 public:
  explicit rank_group(C& comm) : comm_(&comm) {}
  int rank() const { return comm_->rank(); }
  int size() const { return comm_->size(); }

  std::vector<index_t> share(std::vector<index_t> const& items) const {
    auto const [first, n] = share(static_cast<index_t>(items.size()));
    return {items.begin() + first, items.begin() + first + n};
  }
  std::pair<index_t, index_t> share(index_t n) const { return part_of(n, rank(), size()); }

  template <class B>
  model::loss_result total(B& be, model::loss_result const& mine) const {
    std::vector<double> const numbers{mine.loss_sum, static_cast<double>(mine.correct),
                                      static_cast<double>(mine.count)};
    model::loss_result all;
    for (auto const& theirs : gather(be, "the sum of losses", numbers))
      all += {theirs[0], static_cast<index_t>(theirs[1]), static_cast<index_t>(theirs[2])};
    return all;
  }
  template <class B>
  double mean(B& be, double value, bool there) const {
    double sum = 0, n = 0;
    for (auto const& theirs : gather(be, "the mean of a number", std::vector{there ? value : 0.0, there ? 1.0 : 0.0})) {
      sum += theirs[0];
      n += theirs[1];
    }
    return sum / n;
  }
  template <class B>
  bool decide(B& be, bool mine) const {
    return gather(be, "a decision", std::vector{mine ? 1.0 : 0.0})[0][0] != 0;
  }
  template <class B, class G>
  void combine(B& be, G& accumulators) const {
    loraga::combine(be, *comm_, accumulators);
  }
  template <class B, class L, class... How>
  void initialise(B& be, L&& layers, How const&... how) const {
    loraga::initialise(be, layers, how..., loraga::over_ranks(*comm_));
  }
  /// Views become those of rank `root`.
  template <class B, class V>
  void broadcast(B& be, std::vector<V> const& views, int root) const {
    loraga::agree(be, *comm_, "what rank " + std::to_string(root) + " made",
                  std::to_string(views.size()) + " matrices");
    loraga::detail::move_data(*comm_, [&] { loraga::broadcast_views(be, *comm_, std::span<V const>(views), root); });
  }
  template <class B>
  class gradient_mean {
    loraga::gradient_average<B> average_;

   public:
    template <class G>
    void add(G&& gradient) {
      average_.add(gradient);
    }
    void run(B& be, rank_group const& ranks, index_t labels) {
      average_.run(be, *ranks.comm_, static_cast<double>(labels));
    }
  };
  template <class B, class F>
  void save(B& be, std::filesystem::path const& path, F const& items) const {
    loraga::save_rank_checkpoint(be, *comm_, path, items);
  }
  template <class B, class F>
  void load(B& be, std::filesystem::path const& path, F const& items) const {
    loraga::load_rank_checkpoint(be, *comm_, path, items);
  }

 private:
  template <class B>
  std::vector<std::vector<double>> gather(B& be, std::string const& what, std::vector<double> const& mine) const {
    std::vector<std::vector<double>> all;
    for (auto const& text : loraga::agree(be, *comm_, what, {}, loraga::detail::packed(mine)))
      all.push_back(loraga::detail::unpacked<double>(text));
    return all;
  }
};

}  // namespace training
