#pragma once
#include <array>
#include <string>

#include "../support/host.hpp"

// Matrices as people really have them: few live rows, repeated singular values, blocks, constants, extreme scales.
// Each is a function of a number, so that one that failed can be made again.

namespace test {

/// A stream of random choices.
class chooser {
  loraga::random_stream stream_;
  std::uint64_t at_ = 0;

 public:
  explicit chooser(std::uint64_t seed) : stream_{seed, 7} {}
  double uniform() { return loraga::random_uniform(stream_, at_++); }
  double normal() { return loraga::random_normal({stream_.seed, 8}, at_++); }
  index_t between(index_t low, index_t high) {
    return std::min(high, low + static_cast<index_t>(uniform() * static_cast<double>(high - low + 1)));
  }
  bool once_in(index_t n) { return between(1, n) == 1; }
  double sign() { return uniform() < 0.5 ? -1 : 1; }
  std::uint64_t seed() { return static_cast<std::uint64_t>(between(0, 1 << 30)); }
  template <class T, std::size_t N>
  T one_of(std::array<T, N> const& list) {
    return list[static_cast<std::size_t>(between(0, static_cast<index_t>(N) - 1))];
  }
  std::vector<index_t> some_of(index_t n, index_t count) {
    std::vector<index_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), index_t{0});
    for (index_t i = 0; i < count; ++i)
      std::swap(all[static_cast<std::size_t>(i)], all[static_cast<std::size_t>(between(i, n - 1))]);
    all.resize(static_cast<std::size_t>(count));
    return all;
  }
};

struct structured_matrix {
  std::string family;
  host a;
  index_t k = 1;  ///< triplets to ask for
};

namespace structure {

inline host gaussian(chooser& c, index_t m, index_t n) { return random(m, n, c.seed()); }

/// `inner` in some rows and columns of a matrix of zeros.
inline host scattered(chooser& c, index_t m, index_t n, host const& inner) {
  auto const rows = c.some_of(m, inner.rows), cols = c.some_of(n, inner.cols);
  host a(m, n);
  for (index_t j = 0; j < inner.cols; ++j)
    for (index_t i = 0; i < inner.rows; ++i)
      a(rows[static_cast<std::size_t>(i)], cols[static_cast<std::size_t>(j)]) = inner(i, j);
  return a;
}
inline host few_rows(chooser& c, index_t m, index_t n) {
  return scattered(c, m, n, gaussian(c, c.between(1, std::min<index_t>(m, 70)), n));
}
inline host few_columns(chooser& c, index_t m, index_t n) { return transpose(few_rows(c, n, m)); }
inline host few_of_both(chooser& c, index_t m, index_t n) {
  return scattered(c, m, n,
                   gaussian(c, c.between(1, std::min<index_t>(m, 50)), c.between(1, std::min<index_t>(n, 50))));
}
/// Some values, each repeated, largest first; zeros beyond.
inline host repeated_values(chooser& c, index_t m, index_t n) {
  std::vector<double> s;
  index_t const small = std::min(m, n);
  double value = 1;
  for (index_t const rank = c.once_in(2) ? small : c.between(1, small); static_cast<index_t>(s.size()) < rank;) {
    for (index_t times = c.between(1, 60); times > 0 && static_cast<index_t>(s.size()) < rank; --times)
      s.push_back(value);
    value *= c.one_of(std::array{0.99, 0.9, 0.5, 0.1});
  }
  return with_spectrum(m, n, s, c.seed());
}
/// Values within 1e-2 to 1e-7 of one another, then a step.
inline host clustered_values(chooser& c, index_t m, index_t n) {
  index_t const small = std::min(m, n), first = c.between(1, small);
  double const spread = std::pow(10, -static_cast<double>(c.between(2, 7))), low = c.one_of(std::array{0.0, 1e-3, 0.5});
  std::vector<double> s;
  for (index_t i = 0; i < small; ++i) s.push_back(i < first ? 1 - spread * c.uniform() : low * c.uniform());
  std::sort(s.begin(), s.end(), std::greater<>());
  return with_spectrum(m, n, s, c.seed());
}
/// The same block, or blocks of their own, along the diagonal.
inline host blocks(chooser& c, index_t m, index_t n) {
  bool const same = c.once_in(2);
  index_t const h = c.between(1, std::max<index_t>(1, m / 2)), w = c.between(1, std::max<index_t>(1, n / 2));
  host a(m, n), block = gaussian(c, h, w);
  for (index_t i = 0, j = 0; i + h <= m && j + w <= n; i += h, j += w) {
    if (!same) block = gaussian(c, h, w);
    for (index_t q = 0; q < w; ++q)
      for (index_t p = 0; p < h; ++p) a(i + p, j + q) = block(p, q);
  }
  return a;
}
inline host low_rank(chooser& c, index_t m, index_t n) {
  index_t const r = c.between(1, std::min<index_t>({m, n, 20}));
  return gaussian(c, m, r) * gaussian(c, r, n);
}
/// Rank 1 as formulas make it: exactly proportional rows.
inline host outer_product(chooser& c, index_t m, index_t n) {
  double const p = c.uniform(), q = c.uniform();
  return generate(m, n, [&](index_t i, index_t j) {
    return (1 + p * static_cast<double>(i)) * (0.5 - q * static_cast<double>(j));
  });
}
inline host constant(chooser& c, index_t m, index_t n) { return host(m, n, c.sign() * (0.1 + c.uniform())); }
inline host permutation(chooser& c, index_t m, index_t n) {
  host a(m, n);
  index_t const live = c.once_in(2) ? std::min(m, n) : c.between(1, std::min(m, n));
  auto const rows = c.some_of(m, live), cols = c.some_of(n, live);
  bool const weighted = c.once_in(3);
  for (std::size_t i = 0; i < rows.size(); ++i)
    a(rows[i], cols[i]) = weighted ? static_cast<double>(c.between(1, 4)) : c.sign();
  return a;
}
inline host diagonal_decay(chooser& c, index_t m, index_t n) {
  double const ratio = c.one_of(std::array{0.3, 0.7, 0.9, 0.99, 1.0});
  return diagonal(m, n, geometric(std::min(m, n), ratio));
}
inline host decay(chooser& c, index_t m, index_t n) {
  double const power = c.one_of(std::array{0.25, 0.5, 1.0, 3.0});
  std::vector<double> s;
  for (index_t i = 1; i <= std::min(m, n); ++i) s.push_back(std::pow(static_cast<double>(i), -power));
  return with_spectrum(m, n, s, c.seed());
}
inline host signs(chooser& c, index_t m, index_t n) {
  return generate(m, n, [&](index_t, index_t) { return c.sign(); });
}
/// Rows that repeat, some negated: a class-incremental head's, a tied layer's.
inline host repeated_rows(chooser& c, index_t m, index_t n) {
  host const some = gaussian(c, c.between(1, std::min<index_t>(m, 40)), n);
  host a(m, n);
  for (index_t i = 0; i < m; ++i) {
    double const s = c.once_in(3) ? -1 : 1;
    for (index_t j = 0; j < n; ++j) a(i, j) = s * some(i % some.rows, j);
  }
  return a;
}
/// dY*XT where X is one-hot: columns that were never looked up are zero, frequent ones large.
inline host one_hot_inputs(chooser& c, index_t m, index_t n) {
  host a(m, n);
  index_t const used = c.between(1, n);
  for (index_t t = 0, tokens = c.between(1, 3 * n); t < tokens; ++t) {
    auto const id = static_cast<index_t>(static_cast<double>(used) * std::pow(c.uniform(), 3.0));
    for (index_t i = 0; i < m; ++i) a(i, std::min(id, used - 1)) += c.normal();
  }
  return a;
}
/// A classifier's: most classes see almost the same small gradient, few their own.
inline host few_classes(chooser& c, index_t m, index_t n) {
  host const common = 1e-3 * gaussian(c, 1, n), own = gaussian(c, c.between(1, std::min<index_t>(m, 30)), n);
  auto const rows = c.some_of(m, own.rows);
  host a = generate(m, n, [&](index_t, index_t j) { return common(0, j); });
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (index_t j = 0; j < n; ++j) a(rows[i], j) = own(static_cast<index_t>(i), j);
  return a;
}
inline host hilbert(chooser&, index_t m, index_t n) {
  return generate(m, n, [](index_t i, index_t j) { return 1.0 / static_cast<double>(i + j + 1); });
}
inline host toeplitz(chooser& c, index_t m, index_t n) {
  host const d = gaussian(c, m + n, 1);
  return generate(m, n, [&](index_t i, index_t j) { return d(i - j + n, 0); });
}
inline host triangular(chooser&, index_t m, index_t n) {
  return generate(m, n, [](index_t i, index_t j) { return i <= j ? 1.0 : 0.0; });
}
/// Rows whose sizes go over many orders of magnitude.
inline host graded(chooser& c, index_t m, index_t n) {
  host a = gaussian(c, m, n);
  double const step = c.one_of(std::array{0.1, 0.5, 0.9});
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < n; ++j) a(i, j) *= std::max(1e-20, std::pow(step, static_cast<double>(i)));
  return a;
}
inline host one_large_entry(chooser& c, index_t m, index_t n) {
  host a = c.one_of(std::array{1.0, 1e-6, 0.0}) * gaussian(c, m, n);
  a(c.between(0, m - 1), c.between(0, n - 1)) = 1e6;
  return a;
}
inline host orthogonal(chooser& c, index_t m, index_t n) {
  index_t const small = std::min(m, n), r = c.once_in(2) ? small : c.between(1, small);
  return with_spectrum(m, n, std::vector<double>(static_cast<std::size_t>(r), 1.0), c.seed());
}
inline host sparse(chooser& c, index_t m, index_t n) {
  index_t const rarity = c.one_of(std::array<index_t, 3>{3, 30, 300});
  host a = generate(m, n, [&](index_t, index_t) { return c.once_in(rarity) ? c.normal() : 0.0; });
  a(c.between(0, m - 1), c.between(0, n - 1)) = 1;
  return a;
}

struct family {
  char const* name;
  host (*make)(chooser&, index_t, index_t);
};
inline constexpr std::array families{family{"few live rows", few_rows},
                                     family{"few live columns", few_columns},
                                     family{"few live rows and columns", few_of_both},
                                     family{"repeated values", repeated_values},
                                     family{"clustered values", clustered_values},
                                     family{"blocks", blocks},
                                     family{"low rank", low_rank},
                                     family{"outer product", outer_product},
                                     family{"constant", constant},
                                     family{"permutation", permutation},
                                     family{"diagonal", diagonal_decay},
                                     family{"power-law decay", decay},
                                     family{"gaussian", gaussian},
                                     family{"signs", signs},
                                     family{"repeated rows", repeated_rows},
                                     family{"one-hot inputs", one_hot_inputs},
                                     family{"few classes", few_classes},
                                     family{"Hilbert", hilbert},
                                     family{"Toeplitz", toeplitz},
                                     family{"triangular", triangular},
                                     family{"graded rows", graded},
                                     family{"one large entry", one_large_entry},
                                     family{"orthogonal", orthogonal},
                                     family{"sparse", sparse}};

}  // namespace structure

/// Number `seed` of the structured matrices, with sides up to `largest`. All scales that floats have.
inline structured_matrix structured(std::uint64_t seed, index_t largest = 300) {
  chooser c(seed);
  auto const& f = structure::families[seed % structure::families.size()];
  auto const side = [&] {
    index_t const kind = c.between(0, 9);
    return std::min(largest, kind < 3 ? c.between(1, 6) : kind < 6 ? c.between(7, 64) : c.between(65, 300));
  };
  index_t m = side(), n = c.once_in(3) ? m : side();
  if (std::min(m, n) > 150 && !c.once_in(4)) m = std::min<index_t>(m, 150), n = std::min<index_t>(n, 170);
  structured_matrix s{f.name, f.make(c, m, n), 1};
  index_t const small = std::min(m, n);
  s.k = c.once_in(4) ? std::max<index_t>(1, small - c.between(0, 1)) : c.between(1, std::min<index_t>(small, 48));
  double const scale = c.one_of(std::array{1.0, 1.0, 1.0, 1e-3, 1e-8, 1e-20, 1e-30, 1e-38, 1e15, 1e30});
  double const peak = largest > 0 ? test::largest(s.a) : 1;
  s.a = (peak * scale > 1e33 ? 1e33 / peak : scale) * s.a;
  return s;
}

}  // namespace test
