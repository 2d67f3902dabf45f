#pragma once
#include <array>
#include <loraga/linalg/elementwise.hpp>

// Convolutions as matrix products: images, and the matrix whose columns are the windows a kernel looks through.

namespace loraga {

/// A batch of images someone else owns: pixel (h, w) of channel c of image n is
/// data[n*image_stride + c*channel_stride + (h*width + w)*pixel_stride].
template <class T, class Space>
struct image_view {
  using value_type = std::remove_const_t<T>;
  using space = Space;
  T* data = nullptr;
  index_t count = 0, channels = 0, height = 0, width = 0, image_stride = 0, channel_stride = 0, pixel_stride = 1;

  image_view() = default;
  image_view(T* p, index_t n, index_t c, index_t h, index_t w, index_t is, index_t cs, index_t ps)
      : data(p), count(n), channels(c), height(h), width(w), image_stride(is), channel_stride(cs), pixel_stride(ps) {}
  template <class U>
  requires std::same_as<U const, T> image_view(image_view<U, Space> o)
      : image_view(o.data, o.count, o.channels, o.height, o.width, o.image_stride, o.channel_stride, o.pixel_stride) {}

  /// Pixel number `pixel` of channel c of image n.
  LORAGA_HD T& at(index_t n, index_t c, index_t pixel) const {
    return data[n * image_stride + c * channel_stride + pixel * pixel_stride];
  }
  /// Pixels of one channel of one image.
  LORAGA_HD index_t pixels() const { return height * width; }
  /// Elements of all images.
  index_t size() const { return count * channels * height * width; }
  /// n images from `first` on.
  image_view images(index_t first, index_t n) const {
    return {data + first * image_stride, n, channels, height, width, image_stride, channel_stride, pixel_stride};
  }
  /// Elements of memory from the first to behind the last.
  index_t extent() const {
    if (size() == 0) return 0;
    return (count - 1) * image_stride + (channels - 1) * channel_stride + (pixels() - 1) * pixel_stride + 1;
  }
  /// Whether all images are one matrix that a product can use: channels last, or a single image.
  bool is_matrix() const {
    return (count <= 1 || image_stride == pixels() * pixel_stride) && (channel_stride == 1 || pixel_stride == 1);
  }
  /// That matrix: channels x (count*pixels).
  matrix_view<T, Space> matrix() const { return {data, channels, count * pixels(), channel_stride, pixel_stride}; }
};

/// A view of images in PyTorch's and cuDNN's default layout: image by image, channel by channel, row by row.
template <class Space = host_space, class T>
image_view<T, Space> nchw(T* p, index_t count, index_t channels, index_t height, index_t width) {
  return {p, count, channels, height, width, channels * height * width, height * width, 1};
}
/// A view of images with "channels last": image by image, pixel by pixel.
template <class Space = host_space, class T>
image_view<T, Space> nhwc(T* p, index_t count, index_t channels, index_t height, index_t width) {
  return {p, count, channels, height, width, channels * height * width, 1, channels};
}

/// "2 images of 3 channels of 8x8", for messages.
inline std::string images_text(index_t count, index_t channels, index_t height, index_t width) {
  return std::to_string(count) + " images of " + std::to_string(channels) + " channels of " + shape_text(height, width);
}

/// Throws shape_error unless v has these sizes and no two of its elements share a place.
template <class V>
void require_images(V const& v, index_t count, index_t channels, index_t height, index_t width, std::string_view where,
                    std::string_view argument) {
  bool const wanted = v.count == count && v.channels == channels && v.height == height && v.width == width;
  if (!wanted || std::min({count, channels, height, width}) < 0)
    raise<shape_error>(where, argument, images_text(v.count, v.channels, v.height, v.width),
                       images_text(count, channels, height, width));
  if (v.size() == 0) return;
  if (!v.data) raise<shape_error>(where, argument, "a null pointer", images_text(count, channels, height, width));
  std::array<std::array<index_t, 2>, 3> steps{
      {{v.image_stride, v.count}, {v.channel_stride, v.channels}, {v.pixel_stride, v.pixels()}}};
  std::sort(steps.begin(), steps.end());
  index_t least = 1;
  for (auto const& [stride, n] : steps) {
    if (n == 1) continue;
    if (stride < least)
      raise<shape_error>(where, argument, "images with a stride of " + std::to_string(stride),
                         "at least " + std::to_string(least) + ", so that elements do not overlap");
    least = stride * n;
  }
}

/// Throws alias_error if two batches of images may share memory (any shared range of addresses counts).
template <class V, class U>
void require_distinct_images(V const& out, U const& in, std::string_view where, std::string_view out_name,
                             std::string_view in_name) {
  require_distinct(col_major<typename V::space>(out.data, out.extent(), 1),
                   col_major<typename U::space>(in.data, in.extent(), 1), where, out_name, in_name);
}

/// A kernel's movement along one axis, in pixels.
struct convolution_axis {
  index_t kernel = 1, stride = 1, padding = 0, dilation = 1;  ///< as in PyTorch's Conv2d

  /// Outputs along an axis of that length; 0 where the kernel does not fit.
  /// math    floor((length + 2*padding - dilation*(kernel - 1) - 1)/stride) + 1
  index_t outputs(index_t length) const {
    index_t const room = length + 2 * padding - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
  }
};

/// A 2-D convolution's sizes, as in PyTorch's Conv2d with groups = 1; padding is zeros.
struct convolution_geometry {
  index_t channels = 1;  ///< of its input
  convolution_axis height, width;

  /// Rows of the unfolded matrix, which are the inputs of the layer's W. Channel c and entry (i, j) of the kernel make
  /// row (c*kernel_height + i)*kernel_width + j.
  index_t in() const { return channels * height.kernel * width.kernel; }

  /// Throws value_error unless channels, kernels, strides and dilations are at least 1 and paddings at least 0. All
  /// must be below 2^20, so that no size overflows.
  void check(std::string_view where) const {
    auto const in_range = [&](index_t value, index_t least, char const* name) {
      require_value(value >= least && value < (index_t{1} << 20), static_cast<double>(value), where, name,
                    least == 1 ? "1 ... 2^20" : "0 ... 2^20");
    };
    in_range(channels, 1, "channels");
    for (auto const& axis : {height, width}) {
      in_range(axis.kernel, 1, "kernel");
      in_range(axis.stride, 1, "stride");
      in_range(axis.padding, 0, "padding");
      in_range(axis.dilation, 1, "dilation");
    }
  }
};

namespace detail {

/// to = from, for images of one shape in any two layouts.
template <class X, class Y>
struct copy_images {
  X from;
  Y to;
  LORAGA_HD void operator()(index_t pixel, index_t j) const {
    index_t const n = j / from.channels, c = j - n * from.channels;
    to.at(n, c, pixel) = from.at(n, c, pixel);
  }
};

/// What entry `tap` of the windows sees at row y and column x of the output. One call writes one element; divisions
/// depend on j alone, so that a loop over x does them once.
template <class X, class U>
struct unfold {
  X image;
  U windows;
  convolution_axis height, width;
  LORAGA_HD void operator()(index_t x, index_t j) const {
    index_t const rows = windows.count * windows.height, tap = j / rows, row = j - tap * rows;
    index_t const n = row / windows.height, y = row - n * windows.height;
    index_t const line = tap / width.kernel, across = tap - line * width.kernel;
    index_t const c = line / height.kernel, down = line - c * height.kernel;
    index_t const from_y = y * height.stride + down * height.dilation - height.padding;
    index_t const from_x = x * width.stride + across * width.dilation - width.padding;
    using T = typename U::value_type;
    bool const inside = from_y >= 0 && from_y < image.height && from_x >= 0 && from_x < image.width;
    windows.at(n, tap, y * windows.width + x) =
        inside ? image.at(n, c, from_y * image.width + from_x) : static_cast<T>(compute_t<T>(0));
  }
};

/// image = beta*image + the sum of what windows hold of each pixel, in the order of the kernel's entries.
template <class U, class X>
struct fold {
  using C = compute_t<typename X::value_type>;
  U windows;
  X image;
  C beta;
  convolution_axis height, width;
  /// Which output of an axis sees pixel `at` through the kernel's entry k; -1 if none does.
  LORAGA_HD static index_t output(convolution_axis const& axis, index_t at, index_t k, index_t outputs) {
    index_t const steps = at + axis.padding - k * axis.dilation;
    index_t const o = axis.stride == 1 ? steps : steps / axis.stride;
    return steps >= 0 && o * axis.stride == steps && o < outputs ? o : -1;
  }
  LORAGA_HD void operator()(index_t x, index_t j) const {
    index_t const plane = j / image.height, y = j - plane * image.height;
    index_t const n = plane / image.channels, c = plane - n * image.channels;
    C sum = C(0);
    for (index_t down = 0; down < height.kernel; ++down) {
      index_t const from_y = output(height, y, down, windows.height);
      if (from_y < 0) continue;
      index_t const tap = (c * height.kernel + down) * width.kernel;
      for (index_t across = 0; across < width.kernel; ++across) {
        index_t const from_x = output(width, x, across, windows.width);
        if (from_x >= 0) sum += static_cast<C>(windows.at(n, tap + across, from_y * windows.width + from_x));
      }
    }
    auto& pixel = image.at(n, c, y * image.width + x);
    C const old = beta == C(0) ? C(0) : beta * static_cast<C>(pixel);
    pixel = static_cast<typename X::value_type>(old + sum);
  }
};

}  // namespace detail

/// to = from, for images of one shape and type in any two layouts.
template <Backend B, class X, class Y>
void copy_images(B& be, X from, Y to) {
  require_images(from, to.count, to.channels, to.height, to.width, "copy_images", "source");
  be.for_each(to.pixels(), to.count * to.channels, detail::copy_images<X, Y>{from, to});
}

/// Temporary images whose matrix() is one: all of a channel's pixels together.
template <class T, class B>
image_view<T, typename B::space> scratch_images(scratch<B>& temporary, index_t count, index_t channels, index_t height,
                                                index_t width) {
  index_t const pixels = height * width;
  auto const memory = temporary.template matrix<T>(count * pixels, channels);
  return {memory.data, count, channels, height, width, pixels, count * pixels, 1};
}

/// Windows of every image (im2col). `windows` has g.in() channels and the size of the convolution's output. Entry `tap`
/// of a window is a channel, so W (out x g.in()) is multiplied with windows.matrix().
/// errors  shape_error
template <Backend B, class X, class U>
void unfold(B& be, convolution_geometry const& g, X image, U windows) {
  require_images(image, windows.count, g.channels, image.height, image.width, "unfold", "image");
  require_images(windows, image.count, g.in(), g.height.outputs(image.height), g.width.outputs(image.width), "unfold",
                 "windows");
  be.for_each(windows.width, windows.height * windows.count * g.in(),
              detail::unfold<X, U>{image, windows, g.height, g.width});
}

/// The transposed of unfold (col2im): each pixel gets the sum of its places in all windows, in a fixed order.
/// math    image = beta*image + that sum
/// errors  shape_error
template <Backend B, class U, class X>
void fold(B& be, convolution_geometry const& g, U windows, double beta, X image) {
  require_images(image, windows.count, g.channels, image.height, image.width, "fold", "image");
  require_images(windows, image.count, g.in(), g.height.outputs(image.height), g.width.outputs(image.width), "fold",
                 "windows");
  using F = detail::fold<U, X>;
  be.for_each(image.width, image.height * image.channels * image.count,
              F{windows, image, static_cast<typename F::C>(beta), g.height, g.width});
}

}  // namespace loraga
