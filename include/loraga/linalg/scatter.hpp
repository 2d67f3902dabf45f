#pragma once
#include <loraga/linalg/elementwise.hpp>
#include <loraga/linalg/reductions.hpp>
#include <string>

// Columns picked by ids, and sums into columns by ids: products with a one-hot matrix, without that matrix.

namespace loraga {

/// Ids of columns, 1 x tokens, of a signed integer type.
template <class I, class Space>
concept IdsIn = ViewIn<I, Space> && std::signed_integral<typename I::value_type>;

namespace detail {

/// The first token whose id is none of 0 ... bound-1; `tokens` if there is none.
template <class I, class Cell>
struct first_unknown {
  using value_type = index_t;
  I ids;
  index_t bound;
  Cell cell;
  LORAGA_HD static index_t identity() { return index_t{1} << 62; }
  LORAGA_HD index_t map(index_t t, index_t) const {
    auto const id = static_cast<index_t>(ids(0, t));
    return id >= 0 && id < bound ? identity() : t;
  }
  LORAGA_HD static index_t combine(index_t a, index_t b) { return a < b ? a : b; }
  LORAGA_HD void finish(index_t, index_t value) const { cell(0, 0) = value; }
};

template <class X, class I, class Y>
struct gather_columns {
  X x;
  I ids;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    using C = compute_t<typename Y::value_type>;
    auto const id = static_cast<index_t>(ids(0, t));
    bool const known = id >= 0 && id < x.cols;
    C const nan = static_cast<C>(bits_as<float>(std::uint32_t{0x7fc00000u}));
    y(i, t) = static_cast<typename Y::value_type>(known ? value_as<C>(x(i, id)) : nan);
  }
};

/// Key of a token: its id above its position. Ids that name no column share one of their own.
template <class I, class K>
struct token_keys {
  I ids;
  index_t bound;
  K keys;
  LORAGA_HD void operator()(index_t t, index_t) const {
    auto const id = static_cast<index_t>(ids(0, t));
    bool const known = id >= 0 && id < bound;
    keys(t, 0) =
        (known ? static_cast<std::uint64_t>(id) : std::uint64_t{0xffffffffu}) << 32 | static_cast<std::uint64_t>(t);
  }
};

/// Sorted runs of 2^level different keys become runs of twice the length: each key finds its place by counting the
/// smaller ones in the run beside its own.
template <class K>
struct merge_runs {
  K from, to;
  int level;
  LORAGA_HD void operator()(index_t t, index_t) const {
    index_t const run = t >> level, other = run ^ 1, end = from.rows;
    index_t const first = other << level < end ? other << level : end;
    index_t low = first, high = first + (index_t{1} << level) < end ? first + (index_t{1} << level) : end;
    auto const key = from(t, 0);
    while (low < high) {
      index_t const middle = (low + high) / 2;
      if (from(middle, 0) < key) low = middle + 1;
      else high = middle;
    }
    index_t const start = (run < other ? run : other) << level;
    to(start + (t - (run << level)) + (low - first), 0) = key;
  }
};

/// The first key of each id adds up the columns of all its tokens, in the order of tokens, in double.
template <class X, class K, class Y>
struct add_sorted_columns {
  X x;
  K keys;
  Y y;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    auto const id = static_cast<index_t>(keys(t, 0) >> 32);
    if (id >= y.cols || (t > 0 && static_cast<index_t>(keys(t - 1, 0) >> 32) == id)) return;
    double sum = 0;
    for (; t < keys.rows && static_cast<index_t>(keys(t, 0) >> 32) == id; ++t)
      sum += as_double(x(i, static_cast<index_t>(keys(t, 0) & 0xffffffffu)));
    using C = compute_t<typename Y::value_type>;
    y(i, id) = static_cast<typename Y::value_type>(static_cast<C>(as_double(y(i, id)) + sum));
  }
};

}  // namespace detail

/// Throws value_error if an id is none of 0 ... bound-1, naming the first such id. Waits for the backend.
/// cost    one reduction
template <Backend B, IdsIn<typename B::space> I>
void require_ids(B& be, I ids, index_t bound, std::string_view where) {
  require_shape(ids, 1, ids.cols, where, "ids");
  if (ids.cols == 0) return;
  scratch<B> temporary(be);
  auto const cell = temporary.template matrix<index_t>(1, 1);
  be.reduce_columns(ids.cols, 1, detail::first_unknown<I, decltype(cell)>{ids, bound, cell});
  index_t const t = read_scalar(be, cell);
  if (t < ids.cols)
    raise<value_error>(where, "ids(0, " + std::to_string(t) + ")", std::to_string(read_scalar(be, ids.columns(t, 1))),
                       "0 ... " + std::to_string(bound - 1));
}

/// Picks columns. An id that names no column gives a column of NaN; nothing outside x is read.
/// math    y(:, t) = x(:, ids(t))
/// errors  shape_error
template <Backend B, ViewIn<typename B::space> X, IdsIn<typename B::space> I, MutableViewIn<typename B::space> Y>
void gather_columns(B& be, X x, I ids, Y y) {
  require_shape(ids, 1, y.cols, "gather_columns", "ids");
  require_shape(x, y.rows, x.cols, "gather_columns", "x");
  be.for_each(y.rows, y.cols, detail::gather_columns<X, I, Y>{x, ids, y});
}

/// Adds columns by id. Each column of y is summed in the order of tokens, so the bits are the same every time, without
/// atomics. Ids that name no column are left out.
/// math    y(:, ids(t)) += x(:, t) for all t
/// cost    a merge sort of the ids, tokens*log^2(tokens)/2 steps in log(tokens) passes, and 16 bytes per token
/// errors  shape_error; also for 2^32 tokens or 2^32 - 1 columns, which the sort's keys do not hold
template <Backend B, ViewIn<typename B::space> X, IdsIn<typename B::space> I, MutableViewIn<typename B::space> Y>
void add_columns(B& be, X x, I ids, Y y) {
  require_shape(ids, 1, x.cols, "add_columns", "ids");
  require_shape(x, y.rows, x.cols, "add_columns", "x");
  index_t const n = ids.cols, most = 0xffffffff;
  if (n > most || y.cols >= most)
    raise<shape_error>("add_columns", "y", shape_text(y.rows, y.cols) + " for " + std::to_string(n) + " tokens",
                       "below 2^32 of both");
  scratch<B> temporary(be);
  auto keys = temporary.template matrix<std::uint64_t>(n, 1), other = temporary.template matrix<std::uint64_t>(n, 1);
  using K = decltype(keys);
  be.for_each(n, 1, detail::token_keys<I, K>{ids, y.cols, keys});
  for (int level = 0; index_t{1} << level < n; ++level) {
    be.for_each(n, 1, detail::merge_runs<K>{keys, other, level});
    std::swap(keys, other);
  }
  be.for_each(y.rows, n, detail::add_sorted_columns<X, K, Y>{x, keys, y});
}

}  // namespace loraga
