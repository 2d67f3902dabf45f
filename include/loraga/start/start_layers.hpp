#pragma once
#include <limits>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/start/check_layers.hpp>
#include <map>
#include <vector>

// check -> group -> measure -> make -> judge -> commit.

namespace loraga {

namespace detail {

/// New values of one layer, made beside the old ones, and what was found out about them.
template <class T, class B>
struct beginning {
  matrix<T, B> a, b;  // A as in x r
  int flags = svd_usable;
  double a_size = 0, b_size = 0;  // largest magnitudes
};

/// Why a layer cannot begin with these, or nothing.
inline std::string fault_of(int flags, double a_size, double b_size, start_kind kind) {
  if (flags != svd_usable) return "is " + describe_flags(flags);
  if (!is_finite(a_size) || !is_finite(b_size))
    return "is usable but leads to A or B that are not finite (gamma, step, s, or a zero or not finite W)";
  if (a_size == 0 && b_size == 0) return "is usable but leads to A = B = 0, which never learns";
  if (kind == start_kind::ahead && b_size == 0) return "is usable but too small: B would be 0";
  return {};
}

/// What was measured of layer i, read-only where it can be.
template <class M>
auto value_at(M& measured, index_t i) {
  if constexpr (requires { std::as_const(measured)[i]; }) return std::as_const(measured)[i];
  else return measured[i];
}

/// A and B of layer i of a group, from what was measured of it.
template <class B, class I, class T, class... M>
void make_one(B& be, [[maybe_unused]] index_t i, layer_facts const& facts, I const& init, beginning<T, B>& to,
              M&... measured) {
  auto const values = std::make_tuple(value_at(measured, i)...);
  (..., (to.flags |= measured.flags[static_cast<std::size_t>(i)]));
  if (to.flags != svd_usable) return;
  to.a = {be, facts.in, facts.rank};
  to.b = {be, facts.out, facts.rank};
  for (auto const v : {to.a.view(), to.b.view()})  // what `make` leaves out is then no number
    loraga::fill(be, v, std::numeric_limits<double>::quiet_NaN());
  try {
    std::apply([&](auto const&... v) { init.make(be, facts, v..., to.a.view().transposed(), to.b.view()); }, values);
  } catch (numeric_error const&) {
    to.flags |= svd_not_finite;
  }
}

/// Measures what `init` needs of layers of one shape and rank, and makes A and B of each.
template <class B, class L, class I, class Svd, class T>
void make_group(B& be, std::span<L const* const> layers, std::span<layer_facts const> facts, I const& init,
                Svd const& svd, std::span<beginning<T, B>* const> to) {
  auto const make = [&](auto... measured) {
    for (auto const n : {layers.size(), measured.flags.size()...})
      if (n != layers.size())
        raise<shape_error>("initialise", "flags of a need", std::to_string(n),
                           std::to_string(layers.size()) + ", one per layer");
    for (std::size_t i = 0; i < layers.size(); ++i)
      make_one(be, static_cast<index_t>(i), facts[i], init, *to[i], measured...);
  };
  std::apply([&](auto const&... need) { make(need.measure(be, layers, svd)...); }, needs_of(init, facts[0]));
}

/// A and B of these layers, those of one shape and rank together.
template <class B, class L, class I, class Svd, class T>
void make_some(B& be, std::span<L const> layers, std::span<std::size_t const> which, std::uint64_t first, I const& init,
               Svd const& svd, std::vector<beginning<T, B>>& to) {
  std::map<std::tuple<index_t, index_t, index_t>, std::vector<std::size_t>> groups;
  for (auto const i : which) {
    auto const& ad = *layers[i].adapter;
    groups[{ad.out(), ad.in(), ad.rank()}].push_back(i);
  }
  for (auto const& [shape, members] : groups) {
    std::vector<L const*> group;
    std::vector<layer_facts> facts;
    std::vector<beginning<T, B>*> places;
    for (auto const i : members) {
      group.push_back(&layers[i]);
      facts.push_back(facts_of(layers[i], first + i));
      places.push_back(&to[i]);
    }
    make_group<B, L, I, Svd, T>(be, group, facts, init, svd, places);
  }
}

/// Largest magnitudes of all A and B, by one look.
template <class T, class B>
void measure_sizes(B& be, std::vector<beginning<T, B>>& all) {
  matrix<double, B> cells(be, 2, static_cast<index_t>(all.size()));
  loraga::fill(be, cells.view(), 0);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].flags != svd_usable) continue;
    auto const column = cells.view().columns(static_cast<index_t>(i), 1);
    loraga::max_abs(be, all[i].a.view(), column.row_range(0, 1));
    loraga::max_abs(be, all[i].b.view(), column.row_range(1, 1));
  }
  auto const sizes = read_all(be, cells.view());
  for (std::size_t i = 0; i < all.size(); ++i) all[i].a_size = sizes[2 * i], all[i].b_size = sizes[2 * i + 1];
}

/// Anchors the good layers and gives them their start; returns what is wrong with the others.
template <start_kind Kind, class B, class L, class X, class T>
std::string commit(B& be, std::span<L const> layers, X const& anchor, std::vector<beginning<T, B>> const& all) {
  std::string bad;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const& l = layers[i];
    auto const fault = fault_of(all[i].flags, all[i].a_size, all[i].b_size, Kind);
    if (!fault.empty()) {
      bad += (bad.empty() ? "" : "; ") + l.label(i) + " " + fault;
      continue;
    }
    const_view<T, typename B::space> const a = all[i].a.view().transposed(), b = all[i].b.view();
    try {
      if constexpr (Kind != start_kind::at_zero) anchor.apply(be, *l.adapter, l.weight, a, b);
      l.adapter->start(be, a, b);
    } catch (backend_error const& failure) {
      throw backend_error("initialise(" + l.label(i) + "): " + failure.what() +
                              "; layers before it are initialised, it and those after it are as they were" +
                              (bad.empty() ? "" : "; " + bad),
                          failure.code);
    }
  }
  return bad;
}

/// `ranks` shares the work of several processes, if there are any.
template <class B, class L, class I, class Svd, class X, class R>
void start_layers(B& be, std::span<L const> layers, std::uint64_t first, I const& init, Svd const& svd, X const& anchor,
                  R const& ranks) {
  using T = typename layer_parts<L>::adapter::value_type;
  std::vector<beginning<T, B>> all(layers.size());
  ranks.together(be, [&] { check_layers(layers, init, anchor); });
  ranks.share(be, layers, init, anchor, all,
              [&](std::span<std::size_t const> which) { make_some(be, layers, which, first, init, svd, all); });
  std::string bad;
  ranks.together(be, [&] {
    measure_sizes(be, all);
    bad = commit<I::starts>(be, layers, anchor, all);
  });
  if (!bad.empty())
    throw numeric_error("initialise: " + bad + "; expected finite, non-zero numbers (these layers are unchanged)");
}

}  // namespace detail

}  // namespace loraga
