#include <loraga/adapter/convolution.hpp>
#include <loraga/adapter/dora.hpp>
#include <loraga/gradient/incremental.hpp>

#include "../init/checks.hpp"
#include "../support/gradient_check.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::transpose;
using test::upload;

namespace {

template <class T>
using adapter_of = lora<T, test::backend>;
template <class T>
using conv_of = convolution<adapter_of<T>, test::backend>;

/// A layer, and a batch of its images: in memory the columns of matrices, channels first or last.
struct layer_case {
  convolution_geometry g;
  index_t out, count, height, width;
  bool last = false;
  index_t rows() const { return g.height.outputs(height); }
  index_t cols() const { return g.width.outputs(width); }
  index_t size_in() const { return g.channels * height * width; }
  index_t size_out() const { return out * rows() * cols(); }
  index_t at_in(index_t c, index_t y, index_t x) const {
    return last ? (y * width + x) * g.channels + c : (c * height + y) * width + x;
  }
  index_t at_out(index_t c, index_t y, index_t x) const {
    return last ? (y * cols() + x) * out + c : (c * rows() + y) * cols() + x;
  }
  template <class T>
  image_view<T, test::space> x(matrix_view<T, test::space> m) const {
    return last ? nhwc<test::space>(m.data, m.cols, g.channels, height, width)
                : nchw<test::space>(m.data, m.cols, g.channels, height, width);
  }
  template <class T>
  image_view<T, test::space> y(matrix_view<T, test::space> m) const {
    return last ? nhwc<test::space>(m.data, m.cols, out, rows(), cols())
                : nchw<test::space>(m.data, m.cols, out, rows(), cols());
  }

  /// f(output row, input row, output channel, column of W) for every product of one image's convolution.
  template <class F>
  void visit(F f) const {
    for (index_t o = 0; o < out; ++o)
      for (index_t c = 0; c < g.channels; ++c)
        for (index_t i = 0; i < g.height.kernel; ++i)
          for (index_t j = 0; j < g.width.kernel; ++j)
            for (index_t y = 0; y < rows(); ++y)
              for (index_t x = 0; x < cols(); ++x) {
                index_t const from_y = y * g.height.stride + i * g.height.dilation - g.height.padding;
                index_t const from_x = x * g.width.stride + j * g.width.dilation - g.width.padding;
                if (from_y >= 0 && from_y < height && from_x >= 0 && from_x < width)
                  f(at_out(o, y, x), at_in(c, from_y, from_x), o, (c * g.height.kernel + i) * g.width.kernel + j);
              }
  }
  host forward(host const& w, host const& x) const {
    host y(size_out(), x.cols);
    for (index_t n = 0; n < x.cols; ++n)
      visit([&](index_t to, index_t from, index_t o, index_t k) { y(to, n) += w(o, k) * x(from, n); });
    return y;
  }
  host input_gradient(host const& w, host const& dy) const {
    host dx(size_in(), dy.cols);
    for (index_t n = 0; n < dy.cols; ++n)
      visit([&](index_t to, index_t from, index_t o, index_t k) { dx(from, n) += w(o, k) * dy(to, n); });
    return dx;
  }
  host weight_gradient(host const& dy, host const& x) const {
    host dw(out, g.in());
    for (index_t n = 0; n < x.cols; ++n)
      visit([&](index_t to, index_t from, index_t o, index_t k) { dw(o, k) += dy(to, n) * x(from, n); });
    return dw;
  }
};

// Two images of the unfolded matrix at a time, so that the five make three chunks.
template <class T>
convolution_options two_images(layer_case const& l) {
  return {.unfolded_bytes = 2 * l.g.in() * l.rows() * l.cols() * static_cast<index_t>(sizeof(T)) + 1};
}
template <class T>
conv_of<T> make(test::backend& be, layer_case const& l, index_t rank = 2, lora_options o = {}) {
  return {l.g, adapter_of<T>(be, l.out, l.g.in(), rank, rank_stable_scaling{4}, o), two_images<T>(l)};
}
template <class T>
conv_of<T> moved(test::backend& be, layer_case const& l, lora_options o = {}) {
  auto conv = make<T>(be, l, 2, o);
  test::upload_to<T>(be, test::random(2, l.g.in(), 1, 0.3), conv.adapter().a());
  test::upload_to<T>(be, test::random(l.out, 2, 2, 0.3), conv.adapter().b());
  conv.adapter().values_changed(be);
  return conv;
}

layer_case const cases[] = {
    {{2, {3, 1, 1, 1}, {3, 1, 1, 1}}, 3, 5, 4, 5},        // as most are
    {{2, {2, 2, 1, 3}, {3, 1, 0, 1}}, 3, 5, 7, 5},        // stride, padding, dilation and size differ by axis
    {{3, {1, 1, 0, 1}, {1, 1, 0, 1}}, 4, 5, 3, 2, true},  // 1x1, channels last
    {{2, {3, 2, 2, 2}, {2, 3, 1, 1}}, 3, 5, 5, 8, true},
};

/// A convolution as a matrix adapter, for the gradient check: images are columns.
struct flat_convolution {
  layer_case const& l;
  conv_of<double>& conv;
  using tape = conv_of<double>::tape;
  auto parameters() { return conv.adapter().parameters(); }
  void zero_gradient(test::backend& be) { conv.adapter().zero_gradient(be); }
  template <class V>
  void forward(test::backend& be, V w, V x, V y, tape& t) {
    conv.forward(be, w, l.x(x), l.y(y), t);
  }
  template <class V>
  V backward(test::backend& be, V w, V x, V dy, tape& t, double beta, V dx) {
    (void)conv.backward(be, w, l.x(x), l.y(dy), t, beta, l.x(dx));
    return dy;
  }
};

}  // namespace

TEST_CASE("a convolution's passes agree with loops", "[adapter]") {
  auto be = test::make_backend();
  for (auto const& l : cases)
    for (bool const pair : {false, true}) {
      auto conv = moved<double>(be, l);
      auto& ad = conv.adapter();
      if (pair) {
        test::freeze(be, ad);
        test::upload_to<double>(be, test::random(l.out, 2, 9, 0.3), ad.b());
      }
      host const x = test::random(l.size_in(), 5, 3), y = test::random(l.size_out(), 5, 4);
      host const dy = test::random(l.size_out(), 5, 5), dx = test::random(l.size_in(), 5, 6),
                 c = test::change_of(be, ad);
      auto d_x = upload<double>(be, x), d_y = upload<double>(be, y), d_dy = upload<double>(be, dy);
      auto d_dx = upload<double>(be, dx);
      test::view<double> const no_w;
      conv_of<double>::tape t;
      t.keep = true;
      conv.forward(be, no_w, l.x(d_x.view()), l.y(d_y.view()), t);
      auto d_e = upload<double>(be, y);
      conv.forward(be, no_w, l.x(d_x.view()), l.y(d_e.view()));
      CHECK(test::distance(download(be, d_e.view()), download(be, d_y.view())) == 0);
      CHECK(t.step == 2);
      CHECK(test::distance(download(be, d_y.view()), y + l.forward(c, x)) < 1e-12);
      auto const base_dy = conv.backward(be, no_w, l.x(d_x.view()), l.y(d_dy.view()), t, 0.5, l.x(d_dx.view()));
      CHECK(base_dy.data == d_dy.view().data);
      CHECK(test::distance(download(be, d_dx.view()), 0.5 * dx + l.input_gradient(c, dy)) < 1e-12);
      host const g = l.weight_gradient(dy, x), a = download(be, ad.a()), b = download(be, ad.b());
      auto const p = ad.parameters();
      CHECK(test::distance(download(be, p[0].gradient), ad.scale() * (transpose(b) * g)) < 1e-11);
      CHECK(test::distance(download(be, p[1].gradient), ad.scale() * (g * transpose(a))) < 1e-11);
      // without dX, and onto what is there
      (void)conv.backward(be, no_w, l.x(d_x.view()), l.y(d_dy.view()), t, 0, image_view<double, test::space>());
      CHECK(test::distance(download(be, p[1].gradient), 2 * ad.scale() * (g * transpose(a))) < 1e-11);
    }
}

TEST_CASE("a convolution's backward agrees with finite differences", "[adapter]") {
  auto be = test::make_backend();
  layer_case const l{{2, {2, 2, 1, 1}, {3, 1, 0, 1}}, 3, 3, 3, 4};
  host const w = test::random(l.size_out(), l.size_in(), 3), x = test::random(l.size_in(), 3, 4);
  double const p = GENERATE(0.0, 0.4);
  auto conv = moved<double>(be, l, {.dropout = p, .seed = 5});
  flat_convolution as_matrix{l, conv};
  test::check_gradients(be, as_matrix, w, x, [&] {
    if (p > 0) conv.adapter().restart_dropout(be, 0);
  });
}

TEST_CASE("LoRA-GA for a convolution: its gradient, the start, merging", "[adapter]") {
  auto be = test::make_backend();
  layer_case const l{{3, {2, 2, 1, 1}, {3, 1, 1, 1}}, 12, 5, 6, 5};
  host const w = test::random(l.out, l.g.in(), 7, 0.3), x = test::random(l.size_in(), 5, 8);
  host const dy = test::random(l.size_out(), 5, 9), g = l.weight_gradient(dy, x);
  auto d_x = upload<double>(be, x), d_dy = upload<double>(be, dy);
  for (bool const in_place : {false, true}) {
    auto conv = make<double>(be, l, 3);
    dense_gradient<test::backend, double> dense(be, l.out, l.g.in());
    incremental_gradient<test::backend, double> incremental(be, l.out, l.g.in(), {.rank = 3, .width = 12});
    conv.add_gradient(be, dense, l.y(d_dy.view()), l.x(d_x.view()), 2.5);
    conv.add_gradient(be, incremental, l.y(d_dy.view()), l.x(d_x.view()), 2.5);
    CHECK(dense.count() == 1);  // one micro-batch, though it came in chunks
    CHECK(dense.weight() == 2.5);
    CHECK(test::distance(1 / dense.weight() * download(be, dense.sum()), g) < 1e-10);
    auto const found = test::download_triplets(be, incremental.top(be, gram{}, 6));
    auto const expected = test::jacobi_svd(g);
    for (std::size_t i = 0; i < 6; ++i) CHECK(found.s[i] == Approx(expected.s[i]));

    auto d_w = upload<double>(be, w);
    if (in_place) initialise(be, conv.adapter(), lora_ga_init{}, d_w.view(), gram{}, dense, in_place_anchor{});
    else initialise(be, conv.adapter(), lora_ga_init{}, d_w.view(), gram{}, dense, frozen_pair_anchor{});
    double const c2 = std::sqrt(12.0) / 16;
    host const a = download(be, conv.adapter().a()), v = test::columns(expected.v, 0, 3);
    CHECK(test::distance(transpose(a) * a, c2 * (v * transpose(v))) < 1e-7);

    // the layer as it starts, after a move, and merged
    conv_of<double>::tape t;
    auto const whole = [&] {
      auto y = upload<double>(be, l.forward(download(be, d_w.view()), x));
      conv.forward(be, d_w.view(), l.x(d_x.view()), l.y(y.view()), t);
      return download(be, y.view());
    };
    CHECK(test::distance(whole(), l.forward(w, x)) < 1e-12);
    test::upload_to<double>(be, test::random(l.out, 3, 10), conv.adapter().b());
    host const before = whole();
    CHECK(test::distance(before, l.forward(w, x)) > 0.1);
    conv.adapter().merge(be, d_w.view());
    CHECK(test::distance(whole(), before) < 1e-11);
    CHECK_THROWS_AS(conv.backward(be, d_w.view(), l.x(d_x.view()), l.y(d_dy.view()), t, 0, l.x(test::view<double>{})),
                    state_error);
  }
  dense_gradient<test::backend> other(be, l.g.in(), l.out);
  CHECK_THROWS_AS(make<double>(be, l).add_gradient(be, other, l.y(d_dy.view()), l.x(d_x.view())), shape_error);
}

TEST_CASE("DoRA around a convolution; the base's dY comes as images of the caller's layout", "[adapter]") {
  auto be = test::make_backend();
  for (auto const& l : {cases[1], cases[3]}) {
    convolution<dora<double, test::backend>, test::backend> conv(
        l.g, dora<double, test::backend>(be, l.out, l.g.in(), 2, rank_stable_scaling{}), two_images<double>(l));
    auto& ad = conv.adapter();
    host const w = test::random(l.out, l.g.in(), 7), x = test::random(l.size_in(), 5, 3), base = l.forward(w, x);
    auto d_w = upload<double>(be, w), d_x = upload<double>(be, x), y = upload<double>(be, base);
    auto dx = upload<double>(be, host(l.size_in(), 5));
    auto dy = upload<float>(be, test::random(l.size_out(), 5, 5));  // of another type than what the base sees
    initialise(be, ad, kaiming_init{});
    ad.prepare(be, d_w.view());
    test::upload_to<double>(be, test::random(l.out, 2, 2, 0.3), ad.b());
    host const grown = w + test::change_of(be, ad), g = download(be, ad.magnitude());
    host ratio(l.out, l.out);
    for (index_t o = 0; o < l.out; ++o) ratio(o, o) = g(o, 0) / test::norm(test::rows(grown, o, 1));
    decltype(conv)::tape t;
    conv.forward(be, d_w.view(), l.x(d_x.view()), l.y(y.view()), t);
    CHECK(test::distance(download(be, y.view()), l.forward(ratio * grown, x)) < 1e-11);
    auto const seen = conv.backward(be, d_w.view(), l.x(d_x.view()), l.y(dy.view()), t, 0, l.x(dx.view()));
    CHECK(seen.channel_stride == l.y(dy.view()).channel_stride);
    matrix<double, test::backend> plain(be, l.size_out(), 5);
    copy_images(be, seen, l.y(plain.view()));
    host const all = download(be, dx.view()) + l.input_gradient(w, download(be, plain.view()));
    CHECK(test::distance(all, l.input_gradient(ratio * grown, download(be, dy.view()))) < 1e-11);
  }
}

TEST_CASE("16-bit images and factors", "[adapter]") {
  auto be = test::make_backend();
  auto const& l = cases[1];
  auto conv = moved<bf16>(be, l);
  auto x = upload<bf16>(be, test::random(l.size_in(), 5, 3)), dy = upload<bf16>(be, test::random(l.size_out(), 5, 5));
  auto y = upload<bf16>(be, host(l.size_out(), 5)), dx = upload<bf16>(be, host(l.size_in(), 5));
  conv_of<bf16>::tape t;
  conv.forward(be, x.view(), l.x(x.view()), l.y(y.view()), t);
  (void)conv.backward(be, x.view(), l.x(x.view()), l.y(dy.view()), t, 0, l.x(dx.view()));
  host const c = test::change_of(be, conv.adapter()), hx = download(be, x.view()), hdy = download(be, dy.view());
  host const expected = l.forward(c, hx), back = l.input_gradient(c, hdy);
  CHECK(test::distance(download(be, y.view()), expected) < 0.005 * test::largest(expected));  // rounded once
  CHECK(test::distance(download(be, dx.view()), back) < 0.005 * test::largest(back));
  host const g = l.weight_gradient(hdy, hx);
  host const db = conv.adapter().scale() * (g * transpose(download(be, conv.adapter().a())));
  bool const rounded = std::is_same_v<inner_t<test::backend, bf16>, bf16>;  // H, once
  CHECK(test::distance(download(be, conv.adapter().parameters()[1].gradient), db) <
        (rounded ? 0.005 * test::largest(db) : 1e-3));
}

TEST_CASE("convolutions refuse by name what does not fit, and change nothing; no images, no work", "[adapter]") {
  auto be = test::make_backend();
  auto const& l = cases[1];
  CHECK_THROWS_AS(conv_of<float>(l.g, adapter_of<float>(be, 3, 11, 2, rank_stable_scaling{})), shape_error);
  adapter_of<float> fits(be, 3, 12, 2, rank_stable_scaling{});
  CHECK_THROWS_AS(conv_of<float>({2, {2, 0, 1, 1}, {3, 1, 1, 1}}, std::move(fits)), value_error);
  CHECK_THROWS_AS(conv_of<float>(l.g, adapter_of<float>(be, 3, 12, 2, rank_stable_scaling{}), {0}), value_error);
  auto conv = moved<float>(be, l);
  auto x = upload<float>(be, test::random(l.size_in(), 5, 3)), y = upload<float>(be, test::random(l.size_out(), 5, 4));
  auto dx = upload<float>(be, test::random(l.size_in(), 5, 5));
  host const before = download(be, y.view());
  conv_of<float>::tape t;
  auto const w = x.view();
  image_view<float, test::space> const ix = l.x(x.view()), iy = l.y(y.view()), idx = l.x(dx.view());
  auto const small = nchw<test::space>(x.view().data, 5, 2, 1, 2), none = nchw<test::space>(y.view().data, 5, 3, 0, 0);
  CHECK_THROWS_WITH(conv.forward(be, w, small, none, t), Catch::Contains("no smaller than the kernel"));
  CHECK_THROWS_AS(conv.forward(be, w, iy, iy, t), shape_error);
  CHECK_THROWS_AS(conv.forward(be, w, ix.images(0, 4), iy, t), shape_error);
  auto over = iy;
  over.data = x.view().data;
  CHECK_THROWS_AS(conv.forward(be, w, ix, over, t), alias_error);
  CHECK_THROWS_WITH(conv.backward(be, w, ix, iy, t, 0, idx), Catch::Contains("of no pass"));
  CHECK(test::distance(download(be, y.view()), before) == 0);
  conv.forward(be, w, ix, iy, t);
  CHECK_THROWS_AS(conv.backward(be, w, ix.images(0, 4), iy.images(0, 4), t, 0, idx.images(0, 4)), state_error);
  CHECK_THROWS_AS(conv.backward(be, w, ix, iy, t, 0, idx.images(0, 4)), shape_error);
  CHECK_THROWS_AS(conv.backward(be, w, ix, iy, t, 0, ix), alias_error);
  CHECK(test::largest(download(be, conv.adapter().gradient())) == 0);
  CHECK_NOTHROW(conv.forward(be, w, ix.images(0, 0), iy.images(0, 0), t));
  CHECK_NOTHROW(conv.backward(be, w, ix.images(0, 0), iy.images(0, 0), t, 0, idx.images(0, 0)));
  CHECK(test::largest(download(be, conv.adapter().gradient())) == 0);
}
