#pragma once
#include <loraga/distributed/merge_estimates.hpp>
#include <loraga/gradient/background.hpp>
#include <loraga/gradient/input_statistics.hpp>
#include <loraga/gradient/offloaded.hpp>
#include <loraga/gradient/projected.hpp>
#include <loraga/gradient/sign_gradient.hpp>
#include <loraga/start/needs.hpp>

// Estimates beyond one process: each rank fed its accumulators with its own micro-batches; `combine` makes them what
// one process would have measured of all of them.

namespace loraga {

namespace detail {

/// Lines that have to agree among ranks: each layer's shape and settings.
template <class G, class S>
std::string accumulator_lines(std::span<G* const> members, std::vector<S> const& states) {
  std::string text;
  for (std::size_t i = 0; i < members.size(); ++i) {
    text += "layer " + std::to_string(i) + ": ";
    if constexpr (requires { members[i]->rows(); }) text += shape_text(members[i]->rows(), members[i]->cols());
    else text += std::to_string(members[i]->features()) + " features";
    text += states[i].settings() + "\n";
  }
  return text;
}

/// Adds up what every rank brought: `per` numbers of every layer.
inline std::vector<double> total_of(std::vector<std::string> const& brought, std::size_t numbers) {
  std::vector<double> total(numbers, 0.0);
  for (auto const& text : brought) {
    auto const theirs = unpacked<double>(text);
    for (std::size_t i = 0; i < numbers; ++i) total[i] += theirs[i];
  }
  return total;
}

/// combine for accumulators that hold a sum, a weight and a count. lines(states) is what else has to agree.
template <class V, Backend B, class C, class G, class F>
void combine_sums(B& be, C& comm, std::span<G* const> members, bucket_options options, F const& lines) {
  require_members(members);
  std::vector<held_state<V>> states;
  for (auto* g : members) states.emplace_back(*g);
  std::vector<double> mine;
  std::vector<V> sums;
  for (auto const& s : states) {
    mine.insert(mine.end(), {s.number("weight"), static_cast<double>(s.count("count"))});
    sums.push_back(s.matrix("sum"));
  }
  auto const brought = agree(be, comm, "combine(" + type_name<G>() + ")",
                             bucket_line(options) + accumulator_lines(members, states) + lines(states), packed(mine));
  auto const total = total_of(brought, mine.size());
  move_data(comm, [&] { all_reduce_views(be, comm, std::span<V const>(sums), options); });
  for (std::size_t i = 0; i < states.size(); ++i) {
    states[i].number("weight") = total[2 * i];
    states[i].count("count") = static_cast<index_t>(total[2 * i + 1]);
  }
}

/// What is inside of a background_gradient.
template <class G>
struct held_inner {
  G* inner = nullptr;
  double* weight = nullptr;
  index_t* count = nullptr;
  template <class O>
  explicit held_inner(O& outside) {
    outside.visit_state(*this);
  }
  void operator()(std::string_view, G& g) { inner = &g; }
  void operator()(std::string_view, double& w) { weight = &w; }
  void operator()(std::string_view, index_t& n) { count = &n; }
};
inline constexpr auto no_lines = [](auto const&) { return std::string(); };

}  // namespace detail

/// Every rank's accumulators become what one process would hold that had seen what all ranks saw. Call it once, behind
/// the last micro-batch: a second call would count again what the first one made common, on every rank. For
/// dense_gradient, sign_gradient, offloaded_gradient, projected_gradient (all from the same first pass),
/// input_statistics, incremental_gradient. `members` holds one of every layer, in the same order on every rank; a rank
/// that saw nothing brings empty ones. What was not finite on one rank is not finite, or flagged, on all.
/// math    sums, weights and counts are added; statistics join by their means (Chan, Golub, LeVeque); estimates merge in
///         a tree that the ranks alone decide, so all ranks have the same bits, whatever arrives first
/// loss    of incremental estimates the one that merge has, log2(ranks) times
/// cost    per rank and layer 2*(1 - 1/ranks) times the numbers that the accumulator keeps, in buckets
/// memory  one bucket; of incremental estimates up to twice as much as they keep, beside it
/// errors  rank_error, the same on every rank, where shapes, settings, classes or first passes differ or a rank failed;
///         nothing has changed then, but where a rank fails once estimates began to merge: then reset them.
///         value_error, state_error for a null pointer, or an accumulator that is there twice
template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<dense_gradient<B, T>* const> members, bucket_options options = {}) {
  detail::combine_sums<matrix_view<T, typename B::space>>(be, comm, members, options, detail::no_lines);
}
template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<sign_gradient<B, T>* const> members, bucket_options options = {}) {
  detail::combine_sums<matrix_view<T, typename B::space>>(be, comm, members, options, detail::no_lines);
}
template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<offloaded_gradient<B, T>* const> members, bucket_options options = {}) {
  detail::combine_sums<matrix_view<T, host_space>>(be, comm, members, options, detail::no_lines);
}
template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<projected_gradient<B, T>* const> members, bucket_options options = {}) {
  auto const directions = [&](auto const& states) {
    std::string text;
    for (auto const& s : states) {
      auto const values = read_all(be, s.matrix("directions"));
      text += "directions with check sum " + std::to_string(detail::digest(std::as_bytes(std::span(values)))) + "\n";
    }
    return text;
  };
  detail::combine_sums<matrix_view<T, typename B::space>>(be, comm, members, options, directions);
}

template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<input_statistics<B, T>* const> members, bucket_options options = {}) {
  using space = typename B::space;
  detail::require_members(members);
  // Means have another type than scatters: two visits, each sees its own.
  std::vector<detail::held_state<matrix_view<T, space>>> states;
  std::vector<matrix_view<double, space>> means;
  std::vector<double> mine;
  index_t most = 0;
  for (auto* g : members) {
    auto const& s = states.emplace_back(*g);
    means.push_back(detail::held_state<matrix_view<double, space>>(*g).matrix("mean"));
    mine.insert(mine.end(), {s.number("weight"), static_cast<double>(s.count("count")), s.number("mass")});
    most = std::max(most, g->features());
  }
  slab<double, B> old(be, static_cast<index_t>(members.size()), most, 1);  // here, so that a failure is told
  auto const brought =
      agree(be, comm, "combine(" + detail::type_name<input_statistics<B, T>>() + ")",
            detail::bucket_line(options) + detail::accumulator_lines(members, states), detail::packed(mine));
  auto const total = detail::total_of(brought, mine.size());
  detail::move_data(comm, [&] {
    for (std::size_t i = 0; i < states.size(); ++i) {  // the share of each mean in the mean of all
      double const mass = total[3 * i + 2], share = mass > 0 ? states[i].number("mass") / mass : 0;
      be.copy(means[i], old.view()[static_cast<index_t>(i)].row_range(0, means[i].rows));
      axpby(be, share, means[i], 0.0, means[i]);
    }
    all_reduce_views(be, comm, std::span<matrix_view<double, space> const>(means), options);
    std::vector<matrix_view<T, space>> scatters;
    for (std::size_t i = 0; i < states.size(); ++i) {
      auto const scatter = scatters.emplace_back(states[i].matrix("scatter"));
      auto const before = old.view()[static_cast<index_t>(i)].row_range(0, means[i].rows);
      be.for_each(scatter.rows, scatter.cols,
                  detail::add_outer_difference<decltype(before), decltype(before), decltype(scatter)>{
                      states[i].number("mass"), before, means[i], scatter});
    }
    all_reduce_views(be, comm, std::span<matrix_view<T, space> const>(scatters), options);
  });
  for (std::size_t i = 0; i < states.size(); ++i) {
    states[i].number("weight") = total[3 * i];
    states[i].count("count") = static_cast<index_t>(total[3 * i + 1]);
    states[i].number("mass") = total[3 * i + 2];
  }
}

template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, std::span<incremental_gradient<B, T>* const> members, bucket_options options = {}) {
  detail::merge_estimates(be, comm, members, options);
}
/// The same for accumulators that work in the background. Waits for them.
template <Backend B, Communicator<B> C, class G>
void combine(B& be, C& comm, std::span<background_gradient<G, B>* const> members, bucket_options options = {}) {
  detail::require_members(members);
  std::vector<G*> inner;
  for (auto* g : members) inner.push_back(detail::held_inner<G>(*g).inner);
  combine(be, comm, std::span<G* const>(inner), options);
  for (std::size_t i = 0; i < members.size(); ++i) {
    detail::held_inner<G> const outside(*members[i]);
    *outside.weight = inner[i]->weight();
    *outside.count = inner[i]->count();
  }
}
/// The same for all layers of a model.
template <Backend B, Communicator<B> C, class T>
void combine(B& be, C& comm, model_gradient<B, T>& all, bucket_options options = {}) {
  std::vector<incremental_gradient<B, T>*> members;
  for (index_t i = 0; i < all.size(); ++i) members.push_back(&all[i]);
  combine(be, comm, std::span<incremental_gradient<B, T>* const>(members), options);
}
/// The same for one accumulator, or a contiguous range of accumulators or of pointers to them, such as a std::vector.
template <Backend B, Communicator<B> C, class R>
requires ContiguousRange<R> || Source<std::remove_cvref_t<R>>
void combine(B& be, C& comm, R&& accumulators, bucket_options options = {}) {
  if constexpr (ContiguousRange<R>) {
    using G = std::remove_pointer_t<typename decltype(std::span(accumulators))::element_type>;
    std::vector<std::remove_const_t<G>*> members;
    for (auto& g : std::span(accumulators))
      if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(g)>>) members.push_back(g);
      else members.push_back(&g);
    combine(be, comm, std::span<std::remove_const_t<G>* const>(members), options);
  } else {
    combine(be, comm, std::span(&accumulators, 1), options);
  }
}

}  // namespace loraga
