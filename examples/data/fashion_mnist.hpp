#pragma once
#include <fstream>
#include <loraga/linalg/elementwise.hpp>
#include <stdexcept>
#include <string>

#include "../model/image_batch.hpp"
#include "parts.hpp"
#include "sampler.hpp"

namespace data {

/// Images as columns (side*side x count, normalised to mean 0 and variance 1) with their labels, on the host.
struct image_set {
  index_t pixels = 0;
  std::vector<float> images;
  std::vector<index_t> labels;
  index_t count() const { return static_cast<index_t>(labels.size()); }

  /// Items first ... first+n-1.
  image_set slice(index_t first, index_t n) const {
    image_set s{pixels, {}, {}};
    s.images.assign(images.begin() + first * pixels, images.begin() + (first + n) * pixels);
    s.labels.assign(labels.begin() + first, labels.begin() + first + n);
    return s;
  }
};

/// An uncompressed IDX file's bytes after its header; checks magic number, sizes and length.
inline std::vector<unsigned char> read_idx(std::string const& path, std::vector<index_t> const& shape_after_count) {
  std::ifstream file(path, std::ios::binary);
  auto const word = [&] {
    unsigned char b[4] = {};
    file.read(reinterpret_cast<char*>(b), 4);
    return static_cast<index_t>(b[0]) << 24 | b[1] << 16 | b[2] << 8 | b[3];
  };
  auto const fail = [&](std::string const& what) { throw std::runtime_error(path + ": " + what); };
  if (!file) fail("cannot be opened; examples/run.sh puts it there");
  if (word() != 0x0800 + 1 + static_cast<index_t>(shape_after_count.size()))
    fail("is not an IDX file of bytes of the expected rank");
  index_t size = word();
  for (index_t const expected : shape_after_count) {
    if (word() != expected) fail("has images of another size");
    size *= expected;
  }
  std::vector<unsigned char> bytes(static_cast<std::size_t>(size));
  file.read(reinterpret_cast<char*>(bytes.data()), size);
  if (file.gcount() != size) fail("is truncated");
  return bytes;
}

/// Fashion-MNIST's images of classes first ... last, in file order, relabelled from 0.
inline image_set read_fashion_mnist(std::string const& folder, std::string const& prefix, int first, int last) {
  index_t const side = 28, pixels = side * side;
  auto const images = read_idx(folder + "/" + prefix + "-images-idx3-ubyte", {side, side});
  auto const labels = read_idx(folder + "/" + prefix + "-labels-idx1-ubyte", {});
  if (images.size() != labels.size() * static_cast<std::size_t>(pixels))
    throw std::runtime_error(folder + ": images and labels of " + prefix + " differ in number");
  image_set s{pixels, {}, {}};
  for (std::size_t n = 0; n < labels.size(); ++n) {
    if (labels[n] < first || labels[n] > last) continue;
    s.labels.push_back(labels[n] - first);
    auto const* p = images.data() + n * static_cast<std::size_t>(pixels);
    for (index_t i = 0; i < pixels; ++i)  // mean and deviation of the training images
      s.images.push_back((static_cast<float>(p[i]) / 255.f - 0.2860f) / 0.3530f);
  }
  return s;
}

namespace functor {

template <class All, class Index, class Out>
struct gather_columns {
  All all;
  Index which;
  Out out;
  LORAGA_HD void operator()(index_t i, index_t j) const { out(i, j) = all(i, which(0, j)); }
};

}  // namespace functor

template <class B>
class batch_buffer;

/// A data set in a backend's memory; threads may share it.
template <class B>
class device_set {
  loraga::matrix<float, B> images_;
  loraga::matrix<index_t, B> labels_;

 public:
  template <class>
  using buffer = batch_buffer<B>;

  device_set() = default;
  device_set(B& be, image_set const& s) : images_(be, s.pixels, s.count()), labels_(be, 1, s.count()) {
    be.copy(loraga::col_major(s.images.data(), s.pixels, s.count()), images_.view());
    be.copy(loraga::col_major(s.labels.data(), 1, s.count()), labels_.view());
    be.synchronize();
  }
  index_t count() const { return images_.cols(); }
  /// Items first ... first+n-1, in place.
  model::image_batch<typename B::space> range(index_t first, index_t n) const {
    return {images_.view().columns(first, n), labels_.view().columns(first, n)};
  }
  /// The activations of few images stay in a CPU core's own cache; a GPU needs many to be busy.
  std::vector<std::vector<index_t>> to_evaluate(index_t first, index_t n, bool on_host) const {
    index_t const most = on_host ? 10 : 500, last = first + n;
    std::vector<std::vector<index_t>> batches;
    for (index_t i = first; i < last; i += most) {
      batches.emplace_back(static_cast<std::size_t>(std::min(most, last - i)));
      std::iota(batches.back().begin(), batches.back().end(), i);
    }
    return batches;
  }
};

/// Memory for a batch picked from a set.
template <class B>
class batch_buffer {
  loraga::matrix<float, B> images_;
  loraga::matrix<index_t, B> labels_, which_;

 public:
  model::image_batch<typename B::space> pick(B& be, device_set<B> const& set, std::vector<index_t> const& items) {
    auto const n = static_cast<index_t>(items.size());
    auto const all = set.range(0, set.count());
    if (images_.cols() != n) {
      images_ = {be, all.images.rows, n};
      labels_ = {be, 1, n};
      which_ = {be, 1, n};
    }
    be.copy(loraga::col_major(items.data(), 1, n), which_.view());
    be.synchronize();  // `items` may end with the call
    gather(be, all.images, images_.view());
    gather(be, all.labels, labels_.view());
    return {images_.view(), labels_.view()};
  }

 private:
  template <class From, class To>
  void gather(B& be, From from, To to) {
    auto const which = which_.view();
    be.for_each(to.rows, to.cols, functor::gather_columns<From, decltype(which), To>{from, which, to});
  }
};

}  // namespace data
