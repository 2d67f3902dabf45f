#pragma once
#include <loraga/core/philox.hpp>
#include <loraga/linalg/elementwise.hpp>

// Random matrices as functions of (stream, row, column): the same on every backend and any number of threads.

namespace loraga {

namespace detail {

template <class Y>
struct uniform {
  Y y;
  random_stream stream;
  double low, high;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const u = random_uniform(stream, static_cast<std::uint64_t>(j * y.rows + i));
    double const x = fma(high - low, u, low);  // said outright: some compilers fuse, some do not, and bits would differ
    y(i, j) = static_cast<typename Y::value_type>(static_cast<compute_t<typename Y::value_type>>(x));
  }
};

template <class Y>
struct normal {
  Y y;
  random_stream stream;
  double deviation;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    double const x = deviation * random_normal(stream, static_cast<std::uint64_t>(j * y.rows + i));
    y(i, j) = static_cast<typename Y::value_type>(static_cast<compute_t<typename Y::value_type>>(x));
  }
};

/// Rows 4*g ... 4*g+3 of column j from one block of random bits.
template <class Y>
struct test_matrix {
  using C = compute_t<typename Y::value_type>;
  Y y;
  random_stream stream;
  C unit;
  LORAGA_HD void operator()(index_t g, index_t j) const {
    auto const bits =
        philox(stream.seed, static_cast<std::uint64_t>(g) << 32 | static_cast<std::uint64_t>(j), stream.id);
    for (index_t i = 4 * g, b = 0; i < y.rows && b < 4; ++i, ++b)
      y(i, j) = static_cast<typename Y::value_type>(unit * static_cast<C>(static_cast<std::int32_t>(bits.word[b])));
  }
};

}  // namespace detail

/// Fills y with uniform numbers in [low, high).
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_uniform(B& be, Y y, random_stream stream, double low, double high) {
  be.for_each(y.rows, y.cols, detail::uniform<Y>{y, stream, low, high});
}

/// Fills y with normal numbers of mean 0 and the given standard deviation.
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_normal(B& be, Y y, random_stream stream, double deviation) {
  be.for_each(y.rows, y.cols, detail::normal<Y>{y, stream, deviation});
}

/// Fills y with uniform numbers of mean 0 and the given standard deviation: the test matrix of the randomised methods.
/// Random signs would be cheaper, but a vector of two equal entries is orthogonal to them in one case out of two.
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_test_matrix(B& be, Y y, random_stream stream, double deviation = 1) {
  using C = compute_t<typename Y::value_type>;
  double const unit = deviation * 1.7320508075688772 * 0x1p-31;
  be.for_each((y.rows + 3) / 4, y.cols, detail::test_matrix<Y>{y, stream, static_cast<C>(unit)});
}

}  // namespace loraga
