#pragma once
#include <loraga/distributed/agreement.hpp>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/grids.hpp>

namespace loraga {

namespace detail {

/// A gradient and its place in the message.
template <class V>
struct gradient_place {
  V gradient, here;
};
template <class V>
struct pack_scaled {
  compute_t<typename V::value_type> factor;
  LORAGA_HD axpby<read_only_t<V>, V> operator()(gradient_place<V> const& r) const {
    return {factor, r.gradient, 0, r.here};
  }
};
struct pack_zero {
  template <class V>
  LORAGA_HD fill<V> operator()(gradient_place<V> const& r) const {
    return {r.here, 0};
  }
};
struct unpack {
  template <class V>
  LORAGA_HD copy<V, V> operator()(gradient_place<V> const& r) const {
    return {r.here, r.gradient};
  }
};

}  // namespace detail

/// Averages the gradients of ranks that train one model on data of their own: one message per step for all adapters.
/// The optimiser stays local; equal gradients keep the ranks' adapters equal. Give ranks different
/// lora_options::dropout_rank, so that their masks differ.
///   gradient_average<cpu> average;
///   for (auto& ad : adapters) average.add(ad);
///   ... backward ...; average.run(be, comm, tokens); optimiser.step(be);
/// cost    per step, in two launches on a GPU, one pass over the gradients before and after, and one all_reduce of them
/// memory  the gradients once more
template <class B, class T = float>
class gradient_average {
  using space = typename B::space;
  using view = matrix_view<T, space>;
  struct entry {
    view gradient;
    std::shared_ptr<bool const> alive;
  };
  std::vector<entry> entries_;
  std::string lines_;  // what has to be the same on all ranks
  matrix<T, B> flat_;
  grid_list<detail::gradient_place<view>, B> places_;  // in flat_
  index_t numbers_ = 0;

 public:
  using value_type = T;
  /// The gradients of an adapter's parameters. Its views must stay valid.
  template <class A>
  requires requires(A& a) { a.parameters(); }
  void add(A& adapter) {
    for (auto const& p : adapter.parameters()) add(p.gradient, p.alive);
  }
  /// Any other gradient, such as that of a head that is trained as well.
  /// errors  shape_error for a view that is no matrix
  void add(view gradient, std::shared_ptr<bool const> alive = {}) {
    require_matrix(gradient, "gradient_average::add", "gradient");
    lines_ += shape_text(gradient.rows, gradient.cols) + (runs_by_rows(gradient) ? " by rows\n" : "\n");
    if (runs_by_rows(gradient)) gradient = gradient.transposed();
    entries_.push_back({gradient, std::move(alive)});
    numbers_ += gradient.rows * gradient.cols;
  }
  /// How many numbers travel.
  index_t size() const { return numbers_; }

  /// Every gradient becomes the weighted mean of all ranks'.
  /// math    g <- sum_r weight_r*g_r / sum_r weight_r. Where each g_r is the mean over weight_r tokens (or images), that
  ///         is the mean over all of them. A rank without data has weight 0, and its gradients are not looked at
  /// returns  the sum of the weights
  /// errors  rank_error, the same on every rank, if one failed, has other gradients, a weight that is negative or not
  ///         finite, or if all weights are 0
  template <Communicator<B> C>
  double run(B& be, C& comm, double weight = 1) {
    auto const all = together_weights(be, comm, weight);
    double total = 0;
    for (double const w : all) total += w;
    if (!(total > 0) || !is_finite(total))
      throw rank_error("gradient_average::run: the sum of all ranks' weights is " + std::to_string(total) +
                           ", expected finite and above 0",
                       &comm);
    detail::move_data(comm, [&] {
      if (weight == 0) for_each_of(be, places_, detail::pack_zero{});
      else for_each_of(be, places_, detail::pack_scaled<view>{static_cast<compute_t<T>>(weight / total)});
      comm.all_reduce(be, flat_.view().data, numbers_);
      for_each_of(be, places_, detail::unpack{});
    });
    return total;
  }

 private:
  template <class C>
  std::vector<double> together_weights(B& be, C& comm, double weight) {
    auto const sum = detail::digest(std::as_bytes(std::span(lines_)));  // the lines themselves are long for a step
    detail::rank_message mine{false, "gradient_average::run",
                              std::to_string(entries_.size()) + " gradients of " + std::to_string(numbers_) +
                                  " numbers, their shapes with check sum " + std::to_string(sum),
                              detail::packed(std::vector<double>{weight})};
    try {
      require_value(is_finite(weight) && weight >= 0, weight, "gradient_average::run", "weight",
                    "finite and not negative");
      for (auto const& e : entries_)
        if (e.alive && !*e.alive)
          raise<state_error>("gradient_average::run", "an adapter", "gone", "adapters that outlive it, at one place");
      if (flat_.rows() != numbers_) take_message(be);
    } catch (std::exception const& failure) {
      mine = {true, failure.what(), {}, {}};
    }
    auto const all = detail::meet(be, comm, mine);
    detail::require_agreement(all, &comm);
    std::vector<double> weights;
    for (auto const& m : all) weights.push_back(detail::unpacked<double>(m.brings).at(0));
    return weights;
  }
  void take_message(B& be) {
    matrix<T, B> flat(be, numbers_, 1);
    decltype(places_) places;
    T* at = flat.view().data;
    for (auto const& e : entries_) {
      index_t const rows = e.gradient.rows, cols = e.gradient.cols;
      places.add(rows, cols, {e.gradient, view(at, rows, cols, 1, rows)});
      at += rows * cols;
    }
    make_ready(be, places);
    flat_ = std::move(flat);
    places_ = std::move(places);
  }
};

}  // namespace loraga
