#pragma once
#include <loraga/core/philox.hpp>
#include <loraga/linalg/elementwise.hpp>
#include <vector>

// Element work of an incremental update over many layers of one shape. Slabs are seen side by side: column j belongs to
// layer j/columns. What a layer owns is reached through its address in the kernel's parameters, so nothing on the host
// has to outlive a call.

namespace loraga::detail {

/// Where the layers of a batch keep something.
template <class T>
struct addresses_of_layers {
  static constexpr index_t most = 64;
  T* at[most];
};
/// address_of(i) for i < n
template <class T, class F>
addresses_of_layers<T> gather_addresses(std::size_t n, F const& address_of) {
  addresses_of_layers<T> all{};
  for (std::size_t i = 0; i < n; ++i) all.at[i] = address_of(i);
  return all;
}

/// Known directions times `length`, then random ones: the numbers of fill_test_matrix. A grid of blocks of four rows.
template <class V>
struct start_directions {
  using T = typename V::value_type;
  addresses_of_layers<T const> known;
  random_stream stream[addresses_of_layers<T>::most];
  V start;
  index_t columns, known_columns;
  T length, unit;
  LORAGA_HD void operator()(index_t g, index_t j) const {
    index_t const b = j / columns, c = j - b * columns, last = 4 * g + 4 < start.rows ? 4 * g + 4 : start.rows;
    if (c < known_columns) {
      for (index_t i = 4 * g; i < last; ++i) start(i, j) = length * known.at[b][c * start.rows + i];
      return;
    }
    auto const bits =
        philox(stream[b].seed, static_cast<std::uint64_t>(g) << 32 | static_cast<std::uint64_t>(c - known_columns),
               stream[b].id);
    for (index_t i = 4 * g, w = 0; i < last; ++i, ++w)
      start(i, j) = unit * static_cast<T>(static_cast<std::int32_t>(bits.word[w]));
  }
};

/// Sums of squares of every 32nd row, or so, of every token. The faster index of the grid runs along memory.
template <class E, class D>
struct token_parts {
  addresses_of_layers<E const> left;
  index_t rows, row_stride, col_stride, tokens;
  D parts;  // parts x (tokens*layers)
  bool along_tokens;
  LORAGA_HD void operator()(index_t a, index_t c) const {
    index_t const b = c / (along_tokens ? parts.rows : tokens), d = c - b * (along_tokens ? parts.rows : tokens);
    index_t const p = along_tokens ? d : a, t = along_tokens ? a : d;
    double sum = 0;
    for (index_t i = p; i < rows; i += parts.rows) {
      double const x = as_double(left.at[b][i * row_stride + t * col_stride]);
      sum += x * x;
    }
    parts(p, b * tokens + t) = sum;
  }
};
/// w = weight*|left column|*|row of inner's new columns|
template <class V, class D>
struct token_weights {
  D parts;  // as above
  V inner;  // tokens x (columns*layers)
  D w;      // tokens x layers
  index_t columns, known;
  double weight;
  LORAGA_HD void operator()(index_t t, index_t b) const {
    double left = 0, right = 0;
    for (index_t p = 0; p < parts.rows; ++p) left += parts(p, b * w.rows + t);
    for (index_t c = known; c < columns; ++c) {
      double const x = as_double(inner(t, b * columns + c));
      right += x * x;
    }
    w(t, b) = weight * sqrt(left) * sqrt(right);
  }
};
/// Sums of weights, and how many are not zero, over every parts-th token: two rows each.
template <class D>
struct weight_parts {
  D w, sums;  // tokens x layers; 2*parts x layers
  LORAGA_HD void operator()(index_t p, index_t b) const {
    double sum = 0, number = 0;
    for (index_t t = p; t < w.rows; t += sums.rows / 2) {
      sum += w(t, b);
      number += w(t, b) != 0 ? 1 : 0;
    }
    sums(2 * p, b) = sum;
    sums(2 * p + 1, b) = number;
  }
};
template <class D, class V>
struct weight_totals {
  D sums;
  V total;  // 2 x layers
  LORAGA_HD void operator()(index_t i, index_t b) const {
    double sum = 0;
    for (index_t p = i; p < sums.rows; p += 2) sum += sums(p, b);
    total(i, b) = static_cast<typename V::value_type>(sum);
  }
};

/// y += factor*U*diag(s) of every layer, on the known columns
template <class V>
struct add_known_columns {
  using T = typename V::value_type;
  addresses_of_layers<T const> u, s;
  V y;  // rows x (columns*layers)
  index_t columns, known;
  double factor;
  LORAGA_HD void operator()(index_t i, index_t k) const {
    index_t const b = k / known, c = k - b * known;
    y(i, b * columns + c) += u.at[b][c * y.rows + i] * static_cast<T>(factor * as_double(s.at[b][c]));
  }
};
/// Row i times s(i) of every layer.
template <class V>
struct scale_known_rows {
  using T = typename V::value_type;
  addresses_of_layers<T const> s;
  V y;  // known x (columns*layers)
  index_t columns;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) *= s.at[j / columns][i]; }
};

/// A Gram matrix to a unit diagonal; flags a layer whose numbers are not finite, and leaves it harmless ones.
template <class D, class I>
struct unit_gram {
  D gram, unit;  // n x (n*layers)
  I flags;       // 1 x layers
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const n = gram.rows, b = j / n, c = j - b * n;
    double const x = gram(i, j), lengths = sqrt(gram(i, b * n + i)) * sqrt(gram(c, j));
    unit(i, j) = !is_finite(x) || !is_finite(lengths) ? (i == c ? 1.0 : 0.0) : lengths > 0 ? x / lengths : 0.0;
    if (i > 0 || c > 0) return;
    double sum = 0;
    for (index_t k = 0; k < n; ++k) sum += gram(k, b * n + k);
    if (!is_finite(sum)) flags(0, b) |= svd_not_finite;
  }
};
/// Whether an eigenvalue of a Gram matrix of numbers in T is more than rounding.
template <class T>
LORAGA_HD bool stands_out(double value, double largest, index_t n) {
  double const unit = std::is_same_v<T, double> ? 2.3e-16 : 1.2e-7, squared = unit * unit;
  return value > (squared > 2.3e-16 ? squared : 2.3e-16) * static_cast<double>(n) * largest && value > 0;
}
/// diag(1/lengths)*W*diag(1/sqrt(values)), and zero columns where nothing stands out
template <class D, class V>
struct spectral_factor {
  D gram, vectors, values;  // n x (n*layers) both; n x layers
  V factor;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    index_t const n = gram.rows, b = j / n, c = j - b * n;
    double const length = sqrt(gram(i, b * n + i)), value = values(c, b);
    bool const real = length > 0 && stands_out<T>(value, values(0, b), n);
    factor(i, j) = static_cast<T>(real ? vectors(i, j) / (length * sqrt(value)) : 0.0);
  }
};
/// Random columns of about unit length where nothing stood out.
template <class D, class V>
struct fill_dead_columns {
  D values;  // n x layers
  V q;       // rows x (n*layers)
  random_stream stream;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    using T = typename V::value_type;
    index_t const n = values.rows, b = j / n;
    if (stands_out<T>(values(j - b * n, b), values(0, b), n)) return;
    double const x = random_uniform(stream, static_cast<std::uint64_t>(j * q.rows + i)) - 0.5;
    q(i, j) = static_cast<T>(x / sqrt(static_cast<double>(q.rows) / 12.0));
  }
};

/// How far column j of U and of V is from orthonormal, and its energies: all, within U's old span, within V's.
template <class V, class D>
struct look_at_columns {
  D gram_u, gram_v;        // k x (k*layers)
  V overlap_u, overlap_v;  // leading x (leading*layers), or empty
  V s;                     // k x layers
  D found;                 // 4 x (k*layers)
  LORAGA_HD static double worst(D const& gram, index_t j, index_t c, double so_far) {
    for (index_t i = 0; i < gram.rows; ++i) {
      double const x = gram(i, j) - (i == c ? 1.0 : 0.0), size = x < 0 ? -x : x;
      if (!(size <= so_far)) so_far = size;  // NaN is the worst
    }
    return so_far;
  }
  LORAGA_HD static double within(V const& overlap, index_t j) {
    double sum = 0;
    for (index_t i = 0; i < overlap.rows; ++i) sum += as_double(overlap(i, j)) * as_double(overlap(i, j));
    return sum;
  }
  LORAGA_HD void operator()(index_t c, index_t b) const {
    index_t const j = b * gram_u.rows + c, leading = overlap_u.rows, o = b * leading + c;
    double const value = as_double(s(c, b)), energy = c < leading ? value * value : 0;
    double const off = worst(gram_u, j, c, 0);
    found(0, j) = is_nan(off) ? off : worst(gram_v, j, c, off);
    found(1, j) = energy;
    found(2, j) = c < leading ? energy * within(overlap_u, o) : 0;
    found(3, j) = c < leading ? energy * within(overlap_v, o) : 0;
  }
};

/// What a layer remembers on the device until somebody asks.
enum layer_status : index_t { status_flags, status_energy, status_in_u, status_in_v, status_numbers };

/// Adds to a layer's status what its update found. `verdict` is 1 where the triplets may be taken.
template <class V, class D, class I>
struct judge_update {
  addresses_of_layers<double> status;
  bool fresh[addresses_of_layers<double>::most];  // the status holds nothing yet
  D found;                                        // as above
  V s;
  I flags, verdict;  // 1 x layers
  double limit, smallest;
  bool has_turn;
  LORAGA_HD void operator()(index_t, index_t b) const {
    index_t const k = s.rows;
    double off = 0, sums[3] = {0, 0, 0}, last = as_double(s(0, b));
    bool ordered = true, finite = is_finite(last);
    for (index_t c = 0; c < k; ++c) {
      double const x = found(0, b * k + c), value = as_double(s(c, b));
      if (!(x <= off)) off = x;
      for (index_t i = 0; i < 3; ++i) sums[i] += found(i + 1, b * k + c);
      finite = finite && is_finite(value);
      ordered = ordered && value >= 0 && value <= last;
      last = value;
    }
    int now = flags(0, b);
    if (now & svd_not_finite) now = svd_not_finite;
    else if (!finite || (s(0, b) > 0 && as_double(s(0, b)) < smallest)) now = svd_out_of_range;
    else if ((now & svd_ill_conditioned) || !ordered || !(off <= limit))
      now = (now & ~svd_ill_conditioned) | svd_inaccurate;
    double* const to = status.at[b];
    int const all = now | (fresh[b] ? 0 : static_cast<int>(to[status_flags]));
    to[status_flags] = all;
    verdict(0, b) = all == svd_usable;
    bool const turned = has_turn && all == svd_usable;
    if (!turned && !fresh[b]) return;
    for (index_t i = 0; i < 3; ++i) to[status_energy + i] = turned ? sums[i] : -1.0;
  }
};

/// Layers take their triplets: row i of U, then of V, then of s, column by column.
template <class V, class I>
struct take_triplets {
  using T = typename V::value_type;
  addresses_of_layers<T> u, s, v;
  V found_u, found_s, found_v;
  I verdict;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    index_t const k = found_s.rows, b = j / k, c = j - b * k, rows = found_u.rows, cols = found_v.rows;
    if (verdict(0, b) == 0) return;
    if (i < rows) u.at[b][c * rows + i] = found_u(i, j);
    else if (i < rows + cols) v.at[b][c * cols + i - rows] = found_v(i - rows, j);
    else s.at[b][c] = found_s(c, b);
  }
};

/// Row i of the new columns times its token's weight over the mean weight, kept within 1/4 ... 4.
template <class V, class D>
struct emphasise_layers {
  V inner;
  D weights;
  V total;
  index_t columns, known;
  LORAGA_HD void operator()(index_t i, index_t k) const {
    using T = typename V::value_type;
    index_t const fresh = columns - known, b = k / fresh, j = b * columns + known + (k - b * fresh);
    double const mean = as_double(total(0, b)) / as_double(total(1, b));
    if (!(mean > 0)) return;  // all too small to be told apart
    double const ratio = weights(i, b) / mean, factor = ratio < 0.25 ? 0.25 : ratio > 4 ? 4.0 : ratio;
    inner(i, j) = static_cast<T>(inner(i, j) * factor);
  }
};

}  // namespace loraga::detail
