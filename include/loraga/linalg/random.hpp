#pragma once
#include <loraga/core/philox.hpp>
#include <loraga/linalg/elementwise.hpp>

// Random matrices as functions of (stream, row, column): the same on every backend and any number of threads.

namespace loraga {

namespace functor {

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

/// Rows 128*g ... 128*g+127 of column j from one block of random bits.
template <class Y>
struct signs {
  Y y;
  random_stream stream;
  compute_t<typename Y::value_type> magnitude;
  LORAGA_HD void operator()(index_t g, index_t j) const {
    auto const bits =
        philox(stream.seed, static_cast<std::uint64_t>(g) << 32 | static_cast<std::uint64_t>(j), stream.id);
    for (index_t i = 128 * g, b = 0; i < y.rows && b < 128; ++i, ++b)
      y(i, j) = static_cast<typename Y::value_type>((bits.word[b >> 5] >> (b & 31)) & 1u ? magnitude : -magnitude);
  }
};

}  // namespace functor

/// y uniform in [low, high).
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_uniform(B& be, Y y, random_stream stream, double low, double high) {
  be.for_each(y.rows, y.cols, functor::uniform<Y>{y, stream, low, high});
}

/// y normal with mean 0 and the given standard deviation.
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_normal(B& be, Y y, random_stream stream, double deviation) {
  be.for_each(y.rows, y.cols, functor::normal<Y>{y, stream, deviation});
}

/// y = +-magnitude, each with probability 1/2: the test matrix of the randomised methods.
template <Backend B, MutableViewIn<typename B::space> Y>
void fill_signs(B& be, Y y, random_stream stream, double magnitude = 1) {
  using C = compute_t<typename Y::value_type>;
  be.for_each((y.rows + 127) / 128, y.cols, functor::signs<Y>{y, stream, static_cast<C>(magnitude)});
}

}  // namespace loraga
