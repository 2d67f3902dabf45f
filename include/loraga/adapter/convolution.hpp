#pragma once
#include <loraga/linalg/unfold.hpp>
#include <vector>

namespace loraga {

/// How much a convolution unfolds at once.
struct convolution_options {
  index_t unfolded_bytes = index_t{32} << 20;  ///< most that one unfolded matrix may take; at least one image is done
};

/// A matrix adapter around a 2-D convolution (groups = 1): A is a convolution to r channels, B a 1x1 one.
/// A is any adapter of the library for a W of that shape, such as lora<T, B>(be, out, geometry.in(), rank, ...). It is
/// at `adapter()`, where initialisers, anchors, optimisers, merge and checkpoints find it; only passes go through here.
/// Dropout drops entries of the unfolded matrix: a pixel may be dropped in one window and kept in the next. Images are
/// NCHW or NHWC memory as it is. What the base convolution is computed with does not matter.
/// math    Y += adapter(unfold(X)); W is the out x (channels*kernel_height*kernel_width) matrix that PyTorch's weight is
///         in memory, and the change s*B*A has that shape
/// cost    unfolding, and the adapter's passes with a window for a token; after the first step of a shape nothing is
///         allocated
/// memory  per chunk of images the unfolded matrix; in backward its gradient, too, in compute_t; for NCHW a copy of Y
template <class A, class B>
class convolution {
 public:
  using space = typename B::space;
  /// Images of that element type.
  template <class T>
  using images = image_view<T, space>;

  /// What backward needs from forward. One per use of the layer in a step; keep it from step to step.
  struct tape {
    std::vector<typename A::tape> chunks;  ///< the adapter's, one per chunk of images
    bool keep = false;                     ///< let backward go through one pass more than once (the gradients add up)
    index_t count = -1, height = 0, width = 0, step = 1;  ///< images (-1: no pass), and how many make a chunk
    matrix<std::byte, B> base_dy;  ///< where the adapter's base sees another dY than it was given
  };

  /// errors  value_error for a geometry that is none; shape_error if the adapter's `in` is not geometry.in()
  convolution(convolution_geometry const& geometry, A adapter, convolution_options options = {})
      : geometry_(geometry), adapter_(std::move(adapter)), options_(options) {
    geometry.check("convolution");
    require_value(options.unfolded_bytes >= 1, static_cast<double>(options.unfolded_bytes), "convolution",
                  "unfolded_bytes", "at least 1");
    if (adapter_.in() != geometry.in())
      raise<shape_error>("convolution", "adapter", "one of " + std::to_string(adapter_.in()) + " inputs",
                         std::to_string(geometry.in()) + " (channels*kernel_height*kernel_width)");
  }
  A& adapter() { return adapter_; }
  A const& adapter() const { return adapter_; }
  /// The kernel's size, stride, padding and dilation.
  convolution_geometry const& geometry() const { return geometry_; }

  /// Adds the adapter's part to Y, which holds the base convolution of X. W goes to the adapter; lora does not use it.
  /// errors  shape_error, also if the kernel is larger than the padded image; alias_error
  template <ViewIn<space> W, class X, class Y>
  void forward(B& be, W const& w, images<X> x, images<Y> y, tape& t) {
    check(x, y, "convolution::forward", "Y");
    t.count = -1;
    if (adapter_.merged()) return;
    begin(t, x);
    forward_chunks(be, x, y, t.step, [&](index_t chunk, auto windows, auto whole) {
      adapter_.forward(be, w, windows, whole, t.chunks[static_cast<std::size_t>(chunk)]);
    });
  }
  /// The same for evaluation, without dropout and without a tape.
  template <ViewIn<space> W, class X, class Y>
  void forward(B& be, W const& w, images<X> x, images<Y> y) {
    check(x, y, "convolution::forward", "Y");
    if (adapter_.merged()) return;
    forward_chunks(be, x, y, images_at_once(x),
                   [&](index_t, auto windows, auto whole) { adapter_.forward(be, w, windows, whole); });
  }

  /// Adds the gradients of the adapter's parameters, and sets dX = beta*dX + the adapter's share. Without dX, or with
  /// empty images, that part is skipped.
  /// returns  the dY that the base convolution's own backward shall use: dY itself where the adapter is lora
  /// errors  shape_error, alias_error; state_error if the tape is of other images, or the adapter is merged
  template <ViewIn<space> W, class X, class Y, class D = compute_t<std::remove_const_t<X>>>
  [[nodiscard]] auto backward(B& be, W const& w, images<X> x, images<Y> dy, tape& t, double beta = 0,
                              images<D> dx = {}) {
    char const* const where = "convolution::backward";
    check(x, dy, where, "dY");
    bool const wants_dx = dx.size() > 0;
    if (wants_dx) {
      require_images(dx, x.count, x.channels, x.height, x.width, where, "dX");
      require_distinct_images(dx, dy, where, "dX", "dY");
      require_distinct_images(dx, x, where, "dX", "X");
    }
    if (adapter_.merged()) raise<state_error>(where, "adapter", "merged", "unmerged in training");
    if (t.count != x.count || t.height != x.height || t.width != x.width)
      raise<state_error>(
          where, "tape",
          t.count < 0 ? "of no pass, or a merged one" : "of " + images_text(t.count, x.channels, t.height, t.width),
          "the one forward filled for " + images_text(x.count, x.channels, x.height, x.width));
    using C = compute_t<std::remove_const_t<D>>;
    using R = typename decltype(adapter_.backward(be, w, x.matrix(), dy.matrix(), t.chunks[0], 0.0,
                                                  matrix_view<C, space>()))::value_type;
    images<R const> base;
    if constexpr (std::is_same_v<R, std::remove_const_t<Y>>) base = dy;
    for (index_t first = 0, c = 0; first < x.count; first += t.step, ++c) {
      index_t const n = std::min(t.step, x.count - first);
      scratch<B> temporary(be);
      auto const windows = unfolded(be, temporary, x.images(first, n));
      auto const part = dy.images(first, n);
      auto const whole = as_matrix(be, temporary, part);
      images<C> d_windows;
      if (wants_dx) d_windows = scratch_images<C>(temporary, n, windows.channels, windows.height, windows.width);
      auto& chunk = t.chunks[static_cast<std::size_t>(c)];
      chunk.keep = t.keep;
      auto const seen = adapter_.backward(be, w, windows.matrix(), whole.matrix(), chunk, 0.0, d_windows.matrix());
      if (wants_dx) fold(be, geometry_, d_windows, beta, dx.images(first, n));
      if (static_cast<void const*>(seen.data) == whole.data) continue;  // for all chunks or for none
      auto const kept = base_images<R>(be, t, dy);
      copy_images(be,
                  images<R const>(seen.data, n, dy.channels, dy.height, dy.width, dy.pixels() * seen.col_stride,
                                  seen.row_stride, seen.col_stride),
                  kept.images(first, n));
      base = kept;
    }
    return base;
  }

  /// Adds the gradient of W of one micro-batch to an accumulator: LoRA-GA for a convolution. It needs no pass and no
  /// tape.
  /// math    dW = dY*unfold(X)T
  /// shapes  the accumulator out x geometry().in()
  /// errors  shape_error, and what the accumulator's add refuses, which is then as it was
  /// memory  one gradient beside the unfolded matrix
  template <GradientAccumulator<B> G, class Y, class X>
  void add_gradient(B& be, G& gradient, images<Y> dy, images<X> x, double weight = 1) const {
    char const* const where = "convolution::add_gradient";
    check(x, dy, where, "dY");
    if (gradient.rows() != adapter_.out() || gradient.cols() != adapter_.in())
      raise<shape_error>(where, "gradient", shape_text(gradient.rows(), gradient.cols()),
                         shape_text(adapter_.out(), adapter_.in()));
    scratch<B> memory(be);
    auto const dw = memory.template matrix<typename G::value_type>(adapter_.out(), adapter_.in());
    if (x.count == 0) fill(be, dw, 0);
    index_t const step = images_at_once(x);
    for (index_t first = 0; first < x.count; first += step) {
      index_t const n = std::min(step, x.count - first);
      scratch<B> temporary(be);
      auto const windows = unfolded(be, temporary, x.images(first, n));
      auto const whole = as_matrix(be, temporary, dy.images(first, n));
      be.gemm(1.0, whole.matrix(), windows.matrix().transposed(), first > 0 ? 1.0 : 0.0, dw);
    }
    gradient.add(be, dw, weight);
  }

 private:
  convolution_geometry geometry_;
  A adapter_;
  convolution_options options_;

  template <class X, class Y>
  void check(X const& x, Y const& y, char const* where, char const* name) const {
    require_images(x, x.count, geometry_.channels, x.height, x.width, where, "X");
    index_t const height = geometry_.height.outputs(x.height), width = geometry_.width.outputs(x.width);
    if (height < 1 || width < 1)
      raise<shape_error>(where, "X", images_text(x.count, x.channels, x.height, x.width),
                         "images no smaller than the kernel with its dilation, less padding");
    require_images(y, x.count, adapter_.out(), height, width, where, name);
    require_distinct_images(y, x, where, name, "X");
  }

  /// pass(number, windows, part of Y as a matrix) for one chunk of images after the other.
  template <class X, class Y, class F>
  void forward_chunks(B& be, images<X> x, images<Y> y, index_t step, F const& pass) const {
    for (index_t first = 0, c = 0; first < x.count; first += step, ++c) {
      index_t const n = std::min(step, x.count - first);
      scratch<B> temporary(be);
      auto const windows = unfolded(be, temporary, x.images(first, n));
      auto const part = y.images(first, n), whole = as_matrix(be, temporary, part);
      pass(c, windows.matrix(), whole.matrix());
      if (whole.data != part.data) copy_images(be, whole, part);
    }
  }

  template <class X>
  index_t images_at_once(X const& x) const {
    index_t const pixels = geometry_.height.outputs(x.height) * geometry_.width.outputs(x.width);
    index_t const bytes = geometry_.in() * pixels * static_cast<index_t>(sizeof(typename X::value_type));
    return std::clamp<index_t>(options_.unfolded_bytes / bytes, 1, std::max<index_t>(x.count, 1));
  }

  template <class X>
  void begin(tape& t, X const& x) const {
    t.step = images_at_once(x);
    auto const chunks = static_cast<std::size_t>((x.count + t.step - 1) / t.step);
    if (t.chunks.size() < chunks) t.chunks.resize(chunks);
    t.count = x.count;
    t.height = x.height;
    t.width = x.width;
  }

  template <class X>
  auto unfolded(B& be, scratch<B>& temporary, X x) const {
    auto const windows = scratch_images<typename X::value_type>(
        temporary, x.count, geometry_.in(), geometry_.height.outputs(x.height), geometry_.width.outputs(x.width));
    unfold(be, geometry_, x, windows);
    return windows;
  }

  /// The same images where they are one matrix, else a copy that is.
  template <class Y>
  static images<Y> as_matrix(B& be, scratch<B>& temporary, images<Y> y) {
    if (y.is_matrix()) return y;
    auto const copy = scratch_images<std::remove_const_t<Y>>(temporary, y.count, y.channels, y.height, y.width);
    copy_images(be, y, copy);
    return copy;
  }

  /// Memory in the tape for images laid out like dY.
  template <class R, class Y>
  static images<R> base_images(B& be, tape& t, Y const& dy) {
    index_t const bytes = dy.extent() * static_cast<index_t>(sizeof(R));
    if (t.base_dy.rows() < bytes) t.base_dy = matrix<std::byte, B>(be, bytes, 1);
    return {reinterpret_cast<R*>(t.base_dy.view().data),
            dy.count,
            dy.channels,
            dy.height,
            dy.width,
            dy.image_stride,
            dy.channel_stride,
            dy.pixel_stride};
  }
};

}  // namespace loraga
