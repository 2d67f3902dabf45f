#pragma once
#include <loraga/distributed/join_parts.hpp>
#include <loraga/gradient/background.hpp>
#include <optional>

// Estimates of parts of W come together as that of the whole W, on one rank.

namespace loraga::detail {

template <class G>
G const& inner_estimate(G const& g) {
  return g;
}
template <class G, class B>
G const& inner_estimate(background_gradient<G, B> const& g) {
  return g.finished();
}
template <class S>
using inner_estimate_t = std::remove_cvref_t<decltype(inner_estimate(std::declval<S const&>()))>;

/// Throws unless there is an estimate of that part that saw something.
/// returns  what a rank tells of it
template <class S>
part_facts facts_of_part(shard const& part, S const* source, std::string const& where) {
  if (!source) raise<value_error>(where, "gradient", "null", "an accumulator");
  if (source->rows() != part.out() || source->cols() != part.in())
    raise<shape_error>(where, "gradient", shape_text(source->rows(), source->cols()),
                       shape_text(part.out(), part.in()) + ": " + part.text());
  if (source->count() == 0)
    raise<state_error>(where, "gradient", "an empty accumulator", "at least one micro-batch added");
  auto const& inner = inner_estimate(*source);
  if constexpr (requires { inner.width(); }) return {part, inner.width(), inner.usable() ? svd_usable : svd_not_finite};
  else return {part};
}
/// All ranks saw the same micro-batches, each its part of them: weights and counts are equal, not added.
template <class S>
std::string seen_line(S const& source) {
  return ", " + type_name<inner_estimate_t<S>>() + " of " + std::to_string(source.count()) +
         " micro-batches of weight " + std::to_string(source.weight());
}

/// One layer whose estimate comes together on `owner`.
template <class G>
struct gathered_layer {
  G const* part;                  // this rank's
  std::vector<part_facts> parts;  // all ranks'
  int owner;
};

/// Several layers' parts go to their owners; no rank owns two of them.
/// math    in step t rank r meets rank (t - r) mod ranks, so every two meet once, and nobody waits in a circle
/// memory  the whole estimate that this rank owns; its largest part, and another rank's
/// returns  what joins the layer that this rank owns
/// errors  rank_error, the same on every rank
template <Backend B, class C, class G>
auto gather_parts(B& be, C& comm, std::span<gathered_layer<G> const> layers) {
  using join = typename joining<G>::join;
  using T = typename join::whole::value_type;
  int const rank = comm.rank(), size = comm.size();
  auto const owned_by = [&](int who) -> gathered_layer<G> const* {
    for (auto const& l : layers)
      if (l.owner == who) return &l;
    return nullptr;
  };
  auto const numbers = [](gathered_layer<G> const* l, int who) {
    return l ? join::numbers(l->parts[static_cast<std::size_t>(who)]) : 0;
  };
  auto const* const mine = owned_by(rank);
  std::optional<join> joined;
  scratch<B> temporary(be);
  T *out = nullptr, *in = nullptr;
  together(
      be, comm,
      [&] {
        index_t most_out = 0, most_in = 0;
        for (auto const& l : layers) most_out = std::max(most_out, numbers(&l, rank));
        for (int r = 0; r < size; ++r) most_in = std::max(most_in, numbers(mine, r));
        out = temporary.template matrix<T>(most_out, 1).data;
        in = temporary.template matrix<T>(most_in, 1).data;
        if (mine) joined.emplace(be, mine->parts);
      },
      "gathering parts");
  move_data(comm, [&] {
    for (int t = 0; t < size; ++t) {
      int const partner = (t - rank + size) % size;
      auto const* const theirs = owned_by(partner);
      if (theirs) join::pack(be, *theirs->part, out);
      if (partner == rank) {
        if (mine) joined->add(be, static_cast<std::size_t>(rank), out);
        continue;
      }
      index_t const give = numbers(theirs, rank), take = numbers(mine, partner), bytes = sizeof(T);
      if (give + take == 0) continue;
      comm.exchange(be, reinterpret_cast<std::byte const*>(out), give * bytes, reinterpret_cast<std::byte*>(in),
                    take * bytes, partner);
      if (mine) joined->add(be, static_cast<std::size_t>(partner), in);
    }
  });
  return joined;
}

}  // namespace loraga::detail

namespace loraga {

/// The estimate of the whole layer on rank `root`, from every rank's estimate of its part; nothing on the others. From
/// dense and sign gradients it is what one process would have to rounding; incremental estimates lose in every part
/// what they lose alone.
/// cost    sends what the parts hold; of incremental estimates also an SVD of in x (the sum of the ranks' widths) by
///         gram{}, for parts by columns out x that
/// memory  on `root` the whole estimate, and two parts
/// errors  rank_error, the same on every rank, if one failed, saw nothing or other micro-batches, or has a part that does
///         not fit to the others'
template <Backend B, Communicator<B> C, class S>
auto gather_estimate(B& be, C& comm, shard const& part, S const& source, int root) {
  using G = detail::inner_estimate_t<S>;
  using whole = typename detail::joining<G>::join::whole;
  std::string const where = "gather_estimate";
  auto const brought = detail::agree_on(be, comm, where, [&] {
    part.check(where);
    require_value(root >= 0 && root < comm.size(), root, where, "root", "0.." + std::to_string(comm.size() - 1));
    std::vector<double> mine;
    detail::facts_of_part(part, &source, where).write(mine);
    return std::pair(shape_text(part.whole_out, part.whole_in) + (part.by_rows() ? " by rows" : " by columns") +
                         detail::seen_line(source) + " for rank " + std::to_string(root),
                     detail::packed(mine));
  });
  detail::gathered_layer<G> layer{&detail::inner_estimate(source), {}, root};
  for (auto const& text : brought)
    layer.parts.push_back(detail::part_facts::read(detail::unpacked<double>(text), 0, part));
  detail::require_whole(detail::shards_of(layer.parts), where, &comm);
  auto joined = detail::gather_parts(be, comm, std::span<detail::gathered_layer<G> const>(&layer, 1));
  std::optional<whole> result;
  together(
      be, comm,
      [&] {
        if (joined) result = joined->finish(be, source.weight(), source.count());
      },
      where);
  return result;
}

}  // namespace loraga
