#pragma once
#include <limits>
#include <loraga/linalg/elementwise.hpp>
#include <loraga/start/check_layers.hpp>
#include <loraga/svd/unread.hpp>
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
  bool measured = false;          // whether these are known
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

/// Layers of one shape and rank.
template <class L, class T, class B>
struct layer_group {
  std::vector<L const*> layers;
  std::vector<layer_facts> facts;
  std::vector<beginning<T, B>*> to;

  auto size() const { return layers.size(); }
  void add(L const* l, layer_facts const& of, beginning<T, B>* place) {
    layers.push_back(l), facts.push_back(of), to.push_back(place);
  }
};

/// Measures what `init` needs of a group, and makes A and B of each layer: all in step where nothing has to wait.
template <class B, class L, class I, class Svd, class T>
void make_group(B& be, layer_group<L, T, B> const& group, I const& init, Svd const& svd) {
  auto const make = [&](auto... measured) {
    for (auto const n : {group.size(), measured.flags.size()...})
      if (n != group.size())
        raise<shape_error>("initialise", "flags of a need", std::to_string(n),
                           std::to_string(group.size()) + ", one per layer");
    auto const one = [&](B& worker, index_t i) {
      auto const at = static_cast<std::size_t>(i);
      make_one(worker, i, group.facts[at], init, *group.to[at], measured...);
    };
    auto const count = static_cast<index_t>(group.size());
    if constexpr (goes_in_step<I> && all_needs<needs_t<I>, B, L, Svd>::last) in_step(be, count, one);
    else
      for (index_t i = 0; i < count; ++i) one(be, i);
  };
  std::span<L const* const> const layers(group.layers);
  std::apply([&](auto const&... need) { make(need.measure(be, layers, svd)...); }, needs_of(init, group.facts[0]));
}

/// Largest magnitudes of A and B to the first two rows of `cells`, a column for each layer.
template <class T, class B>
void start_sizes(B& be, std::vector<beginning<T, B>*> const& all, matrix_view<double, typename B::space> cells) {
  in_step(be, static_cast<index_t>(all.size()), [&](B& one, index_t i) {
    auto const& made = *all[static_cast<std::size_t>(i)];
    if (made.flags != svd_usable) return;
    loraga::max_abs(one, made.a.view(), cells.columns(i, 1).row_range(0, 1));
    loraga::max_abs(one, made.b.view(), cells.columns(i, 1).row_range(1, 1));
  });
}

/// to(0, i) |= flags of layer i; where there is not one flag for each layer, those of all.
template <class F, class D>
struct gather_flags {
  F flags;  // 1 x n
  D to;     // 1 x layers, whole numbers
  LORAGA_HD void operator()(index_t, index_t i) const {
    int sum = static_cast<int>(to(0, i));
    if (flags.cols == to.cols) sum |= flags(0, i);
    else
      for (index_t j = 0; j < flags.cols; ++j) sum |= flags(0, j);
    to(0, i) = sum;
  }
};

/// Makes A and B of all groups as if nothing went wrong, then looks once. Returns the layers for which something did:
/// they are as before.
template <class B, class L, class I, class Svd, class T>
std::vector<layer_group<L, T, B>> make_unread(B& be, std::vector<layer_group<L, T, B>> const& groups, I const& init,
                                              Svd const& svd) {
  index_t all = 0, first = 0;
  for (auto const& group : groups) all += static_cast<index_t>(group.size());
  matrix<double, B> report(be, 3, all);  // sizes of A and B, flags
  loraga::fill(be, report.view(), 0);
  for (auto const& group : groups) {
    auto const here = report.view().columns(first, static_cast<index_t>(group.size()));
    unread_flags<B> unread;
    make_group(be, group, init, unread_svd<Svd, B>{svd, unread});
    for (auto const& flags : unread.batches()) {
      auto const to = here.row_range(2, 1);
      be.for_each(1, to.cols, gather_flags<decltype(flags.view()), decltype(to)>{flags.view(), to});
    }
    start_sizes(be, group.to, here);
    first += here.cols;
  }
  auto const found = read_all(be, report.view());
  std::vector<layer_group<L, T, B>> again;
  std::size_t at = 0;
  for (auto const& group : groups) {
    layer_group<L, T, B> left;
    for (std::size_t i = 0; i < group.size(); ++i, at += 3) {
      auto& made = *group.to[i];
      if (made.flags == svd_usable && found[at + 2] == 0) {
        made.a_size = found[at], made.b_size = found[at + 1], made.measured = true;
        continue;
      }
      made = {};
      left.add(group.layers[i], group.facts[i], group.to[i]);
    }
    if (left.size() > 0) again.push_back(std::move(left));
  }
  return again;
}

/// A and B of these layers, those of one shape and rank together.
template <class B, class L, class I, class Svd, class T>
void make_some(B& be, std::span<L const> layers, std::span<std::size_t const> which, std::uint64_t first, I const& init,
               Svd const& svd, std::vector<beginning<T, B>>& to) {
  std::map<std::tuple<index_t, index_t, index_t>, layer_group<L, T, B>> by_shape;
  for (auto const i : which) {
    auto const& ad = *layers[i].adapter;
    by_shape[{ad.out(), ad.in(), ad.rank()}].add(&layers[i], facts_of(layers[i], first + i), &to[i]);
  }
  std::vector<layer_group<L, T, B>> groups;
  for (auto& [shape, group] : by_shape) groups.push_back(std::move(group));
  if constexpr (runs_ahead<B> && all_needs<needs_t<I>, B, L, Svd>::take_unread && LeavesUnread<Svd, B>)
    if (!groups.empty()) groups = make_unread(be, groups, init, svd);
  for (auto const& group : groups) make_group(be, group, init, svd);
}

/// Largest magnitudes of all A and B that are not known yet, by one look.
template <class T, class B>
void measure_sizes(B& be, std::vector<beginning<T, B>>& all) {
  std::vector<beginning<T, B>*> open;
  for (auto& made : all)
    if (!made.measured) open.push_back(&made);
  if (open.empty()) return;
  matrix<double, B> cells(be, 2, static_cast<index_t>(open.size()));
  loraga::fill(be, cells.view(), 0);
  start_sizes(be, open, cells.view());
  auto const sizes = read_all(be, cells.view());
  for (std::size_t i = 0; i < open.size(); ++i)
    open[i]->a_size = sizes[2 * i], open[i]->b_size = sizes[2 * i + 1], open[i]->measured = true;
}

/// Anchors the good layers and gives them their start; returns what is wrong with the others.
template <start_kind Kind, class B, class L, class X, class T>
std::string commit(B& be, std::span<L const> layers, X const& anchor, std::vector<beginning<T, B>> const& all) {
  std::string bad;
  std::vector<std::size_t> good;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    auto const fault = fault_of(all[i].flags, all[i].a_size, all[i].b_size, Kind);
    if (fault.empty()) good.push_back(i);
    else bad += (bad.empty() ? "" : "; ") + layers[i].label(i) + " " + fault;
  }
  std::string failed;  // what names a layer already
  auto const start = [&](B& worker, index_t n) {
    auto const i = good[static_cast<std::size_t>(n)];
    auto const& l = layers[i];
    const_view<T, typename B::space> const a = all[i].a.view().transposed(), b = all[i].b.view();
    try {
      if constexpr (Kind != start_kind::at_zero) anchor.apply(worker, *l.adapter, l.weight, a, b);
      l.adapter->start(worker, a, b);
    } catch (backend_error const& failure) {
      failed = "initialise(" + l.label(i) + "): " + failure.what() +
               "; layers before it are initialised, it and those after it are as they were";
      throw;
    }
  };
  auto const count = static_cast<index_t>(good.size());
  constexpr bool together = goes_in_step<X> && goes_in_step<typename layer_parts<L>::adapter>;
  try {
    if constexpr (together) in_step(be, count, start);
    else
      for (index_t n = 0; n < count; ++n) start(be, n);
  } catch (backend_error const& failure) {
    if (failed.empty())  // work of many layers was on its way
      failed = "initialise: " + std::string(failure.what()) +
               "; the device failed while layers were changed, and which of them are initialised is not known: load W "
               "and build the adapters anew";
    throw backend_error(failed + (bad.empty() ? "" : "; " + bad), failure.code);
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
    throw numeric_error("initialise: " + bad +
                        "; expected finite, non-zero numbers in what the start is made of (a gradient from dY and X, "
                        "W); these layers are unchanged");
}

}  // namespace detail

}  // namespace loraga
