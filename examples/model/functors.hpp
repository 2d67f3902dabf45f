#pragma once
#include <loraga/linalg/elementwise.hpp>

// The elementwise parts of a transformer, forward and backward, as named functors over a backend's for_each. Those
// that need a whole column (one token) loop over it themselves.

namespace model {

using loraga::index_t;

/// Activations and their gradients: columns of contiguous floats, which is what lets compilers vectorise.
struct columns {
  float* data;
  index_t rows, cols, stride;
  template <class V>
  columns(V v) : data(v.data), rows(v.rows), cols(v.cols), stride(v.col_stride) {
    if (v.row_stride != 1 && v.rows > 1)
      loraga::raise<loraga::shape_error>("columns", "row stride", std::to_string(v.row_stride), "1");
  }
  LORAGA_HD float& operator()(index_t i, index_t j) const { return data[i + j * stride]; }
};

namespace functor {

/// f(0) + ... + f(n-1), and the largest of them, by 16 partial results that fit a vector register; a plain loop would
/// fix an order of operations that compilers must not vectorise.
template <class F, class Combine>
LORAGA_HD inline float by_lanes(index_t n, float start, F f, Combine combine) {
  float lane[16];
  for (int l = 0; l < 16; ++l) lane[l] = start;
  index_t const whole = n / 16 * 16;
  for (index_t i = 0; i < whole; i += 16)
    for (int l = 0; l < 16; ++l) lane[l] = combine(lane[l], f(i + l));
  for (int l = 0; l < 8; ++l) lane[l] = combine(lane[l], lane[l + 8]);
  for (int l = 0; l < 4; ++l) lane[l] = combine(lane[l], lane[l + 4]);
  float result = combine(combine(lane[0], lane[1]), combine(lane[2], lane[3]));
  for (index_t i = whole; i < n; ++i) result = combine(result, f(i));
  return result;
}
template <class F>
LORAGA_HD inline float sum(index_t n, F f) {
  return by_lanes(n, 0.f, f, [](float a, float b) { return a + b; });
}
template <class F>
LORAGA_HD inline float largest(index_t n, F f) {
  return by_lanes(n, -3e38f, f, [](float a, float b) { return a > b ? a : b; });
}

/// exp without a library call, so that compilers vectorise loops over it: it is the exponent that is clamped, because
/// clamping x itself becomes a branch. For |x| < 1e9; relative error below 2e-7 within -87 ... 88.
LORAGA_HD inline float exp(float x) {
  float const shifted = x * 1.44269504f + 12582912.f;  // rounds to an integer in the low mantissa bits
  float const n = shifted - 12582912.f;
  float const r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float const p =
      1.f + r * (1.f + r * (0.5f + r * (1.6666667e-1f + r * (4.1666638e-2f + r * (8.3333e-3f + r * 1.4e-3f)))));
  std::int32_t const exponent = static_cast<std::int32_t>(n) + 127, low = exponent < 1 ? 1 : exponent;
  return p * loraga::bits_as<float>(static_cast<std::uint32_t>(low > 254 ? 254 : low) << 23);
}

/// Y(:, j) = bias, or Y(:, j) += bias.
struct add_bias {
  columns y, bias;
  bool accumulate;
  LORAGA_HD void operator()(index_t i, index_t j) const { y(i, j) = (accumulate ? y(i, j) : 0.f) + bias(i, 0); }
};

/// to = from + one number for each channel, for images in any two layouts.
template <class Images>
struct add_channel_bias {
  Images from, to;
  columns bias;
  LORAGA_HD void operator()(index_t pixel, index_t j) const {
    index_t const n = j / to.channels, c = j - n * to.channels;
    to.at(n, c, pixel) = from.at(n, c, pixel) + bias(c, 0);
  }
};

/// Normalises each column to mean 0 and variance 1, then scales and shifts rows. Keeps what backward needs.
struct layer_norm {
  columns x, gain, shift, normalised, inverse_deviation, y;
  float epsilon;
  LORAGA_HD index_t cost() const { return 8 * x.rows; }
  LORAGA_HD void operator()(index_t, index_t j) const {
    float const n = static_cast<float>(x.rows);
    float const* const v = &x(0, j);
    float const mean = sum(x.rows, [v](index_t i) { return v[i]; }) / n;
    float const square = sum(x.rows, [v, mean](index_t i) { return (v[i] - mean) * (v[i] - mean); });
    float const inverse = 1.f / sqrtf(square / n + epsilon);
    inverse_deviation(0, j) = inverse;
    for (index_t i = 0; i < x.rows; ++i) {
      normalised(i, j) = (x(i, j) - mean) * inverse;
      y(i, j) = normalised(i, j) * gain(i, 0) + shift(i, 0);
    }
  }
};

/// dx(:, j) = the gradient through the normalisation, or dx(:, j) += that.
struct layer_norm_backward {
  columns dy, gain, normalised, inverse_deviation, dx;
  bool accumulate;
  LORAGA_HD index_t cost() const { return 8 * dy.rows; }
  LORAGA_HD void operator()(index_t, index_t j) const {
    float const n = static_cast<float>(dy.rows), inverse = inverse_deviation(0, j);
    float const *const d = &dy(0, j), *const g = &gain(0, 0), *const v = &normalised(0, j);
    float const mean = sum(dy.rows, [d, g](index_t i) { return d[i] * g[i]; }) / n;
    float const weighted = sum(dy.rows, [d, g, v](index_t i) { return d[i] * g[i] * v[i]; }) / n;
    for (index_t i = 0; i < dy.rows; ++i)
      dx(i, j) = (accumulate ? dx(i, j) : 0.f) + inverse * (dy(i, j) * gain(i, 0) - mean - normalised(i, j) * weighted);
  }
};

/// dgain, dshift of row i, over all columns.
struct layer_norm_parameters {
  columns dy, normalised, dgain, dshift;
  LORAGA_HD void operator()(index_t i, index_t) const {
    float gain = 0, shift = 0;
    for (index_t j = 0; j < dy.cols; ++j) {
      gain += dy(i, j) * normalised(i, j);
      shift += dy(i, j);
    }
    dgain(i, 0) += gain;
    dshift(i, 0) += shift;
  }
};

/// y = x*sigmoid(2u), u = sqrt(2/pi)*(x + 0.044715*x^3): GELU in its tanh form.
struct gelu {
  columns x, y;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const v = x(i, j), u = 1.59576912f * (v + 0.044715f * v * v * v);
    y(i, j) = v / (1.f + functor::exp(-u));
  }
};

/// d *= dGELU/dx
struct gelu_backward {
  columns x, d;
  LORAGA_HD void operator()(index_t i, index_t j) const {
    float const v = x(i, j), u = 1.59576912f * (v + 0.044715f * v * v * v);
    float const s = 1.f / (1.f + functor::exp(-u)), slope = 1.59576912f * (1.f + 0.134145f * v * v);
    d(i, j) *= s + v * s * (1.f - s) * slope;
  }
};

/// Softmax of each column, in place, in three steps: the middle one takes almost all the time and runs over the
/// whole memory at once.
struct subtract_largest {
  columns p;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float* const x = &p(0, j);
    float const top = largest(p.rows, [x](index_t i) { return x[i]; });
    for (index_t i = 0; i < p.rows; ++i) x[i] -= top;
  }
};
struct exponentials {
  float* x;
  LORAGA_HD void operator()(index_t i, index_t) const { x[i] = functor::exp(x[i]); }
};
struct divide_by_sum {
  columns p;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float* const x = &p(0, j);
    float const inverse = 1.f / sum(p.rows, [x](index_t i) { return x[i]; });
    for (index_t i = 0; i < p.rows; ++i) x[i] *= inverse;
  }
};

/// d = p*(d - sum(p*d)) for each column.
struct softmax_backward {
  columns p, d;
  LORAGA_HD void operator()(index_t, index_t j) const {
    float const *const x = &p(0, j), *const y = &d(0, j);
    float const mean = sum(p.rows, [x, y](index_t i) { return x[i] * y[i]; });
    for (index_t i = 0; i < p.rows; ++i) d(i, j) = p(i, j) * (d(i, j) - mean);
  }
};

/// Mean cross-entropy over columns of logits: each column's loss, whether it was right, and the gradient of the mean
/// in place of the logits.
template <class L, class R>
struct cross_entropy {
  columns logits;
  L label;          // 1 x columns
  R loss, correct;  // columns x 1
  LORAGA_HD void operator()(index_t, index_t j) const {
    index_t const target = label(0, j);
    float largest = logits(0, j), sum = 0;
    index_t best = 0;
    for (index_t i = 1; i < logits.rows; ++i)
      if (logits(i, j) > largest) {
        largest = logits(i, j);
        best = i;
      }
    for (index_t i = 0; i < logits.rows; ++i) sum += expf(logits(i, j) - largest);
    loss(j, 0) = static_cast<double>(logf(sum) + largest - logits(target, j));
    correct(j, 0) = best == target;
    float const inverse = 1.f / static_cast<float>(logits.cols);
    for (index_t i = 0; i < logits.rows; ++i)
      logits(i, j) = (expf(logits(i, j) - largest) / sum - (i == target ? 1.f : 0.f)) * inverse;
  }
};

/// Sums of columns, in double.
template <class V>
struct total {
  using value_type = double;
  V from, to;
  LORAGA_HD static double identity() { return 0; }
  LORAGA_HD double map(index_t i, index_t j) const { return from(i, j); }
  LORAGA_HD static double combine(double a, double b) { return a + b; }
  LORAGA_HD void finish(index_t j, double sum) const { to(j, 0) = sum; }
};

/// Square patches of images as columns: pixel q of patch p of image n goes to (q, n*patches + p).
template <class Image>
struct patchify {
  Image images;  // side*side x count
  columns out;
  index_t side, patch;
  LORAGA_HD void operator()(index_t q, index_t column) const {
    index_t const across = side / patch, n = column / (across * across), p = column % (across * across);
    index_t const y = p / across * patch + q / patch, x = p % across * patch + q % patch;
    out(q, column) = images(y * side + x, n);
  }
};

/// Sequences of 1 + patches tokens: the class token, then the patches; positions added.
struct assemble_tokens {
  columns embedded;  // width x (patches*count)
  columns position;  // width x (1 + patches); column 0 holds the class token
  columns x;         // width x ((1 + patches)*count)
  LORAGA_HD void operator()(index_t i, index_t column) const {
    index_t const tokens = position.cols, n = column / tokens, t = column % tokens;
    x(i, column) = position(i, t) + (t == 0 ? 0.f : embedded(i, n * (tokens - 1) + t - 1));
  }
};

struct split_tokens {  // the patches' share of dx
  columns dx, dembedded;
  index_t tokens;
  LORAGA_HD void operator()(index_t i, index_t column) const {
    index_t const n = column / (tokens - 1), t = column % (tokens - 1) + 1;
    dembedded(i, column) = dx(i, n * tokens + t);
  }
};

struct sum_positions {
  columns dx, dposition;
  LORAGA_HD void operator()(index_t i, index_t t) const {
    float total = 0;
    for (index_t column = t; column < dx.cols; column += dposition.cols) total += dx(i, column);
    dposition(i, t) += total;
  }
};

}  // namespace functor

}  // namespace model
