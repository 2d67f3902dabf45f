#include <loraga/linalg/unfold.hpp>

#include "../support/backend.hpp"
#include "../support/catch.hpp"

using namespace loraga;
using test::download;
using test::host;
using test::upload;

namespace {

/// A batch in memory, as the columns of a matrix; `last` says whether channels are last.
struct batch {
  index_t count, channels, height, width;
  bool last;
  index_t row(index_t c, index_t y, index_t x) const {
    return last ? (y * width + x) * channels + c : (c * height + y) * width + x;
  }
  template <class T>
  image_view<T, test::space> view(matrix<T, test::backend>& m) const {
    T* const p = m.view().data;
    return last ? nhwc<test::space>(p, count, channels, height, width)
                : nchw<test::space>(p, count, channels, height, width);
  }
  host random(std::uint64_t seed) const { return test::random(channels * height * width, count, seed); }
};

struct unfold_case {
  convolution_geometry geometry;
  index_t height, width;
};
unfold_case const samples[] = {{{3, {3, 1, 1, 1}, {3, 1, 1, 1}}, 5, 4},
                               {{2, {2, 2, 1, 3}, {3, 1, 0, 1}}, 7, 5},
                               {{1, {3, 3, 2, 2}, {1, 2, 4, 1}}, 4, 9},
                               {{2, {4, 1, 0, 1}, {3, 5, 0, 1}}, 4, 3}};

}  // namespace

TEST_CASE("unfold shows every window; fold is its transposed", "[linalg]") {
  auto be = test::make_backend();
  bool const channels_last = GENERATE(false, true);
  for (auto const& [g, height, width] : samples) {
    batch const in{3, g.channels, height, width, channels_last};
    batch const out{3, g.in(), g.height.outputs(height), g.width.outputs(width), channels_last};
    host const x = in.random(1), u = out.random(2), start = in.random(3);
    host windows(u.rows, u.cols), image = 0.5 * start;
    for (index_t n = 0; n < 3; ++n)
      for (index_t c = 0; c < g.channels; ++c)
        for (index_t i = 0; i < g.height.kernel; ++i)
          for (index_t j = 0; j < g.width.kernel; ++j)
            for (index_t oy = 0; oy < out.height; ++oy)
              for (index_t ox = 0; ox < out.width; ++ox) {
                index_t const y = oy * g.height.stride + i * g.height.dilation - g.height.padding;
                index_t const z = ox * g.width.stride + j * g.width.dilation - g.width.padding;
                index_t const tap = (c * g.height.kernel + i) * g.width.kernel + j;
                if (y < 0 || y >= height || z < 0 || z >= width) continue;
                windows(out.row(tap, oy, ox), n) = x(in.row(c, y, z), n);
                image(in.row(c, y, z), n) += u(out.row(tap, oy, ox), n);
              }
    auto dx = upload<double>(be, x), du = upload<double>(be, u), folded = upload<double>(be, start);
    matrix<double, test::backend> unfolded(be, u.rows, u.cols);
    unfold(be, g, in.view(dx), out.view(unfolded));
    CHECK(test::distance(download(be, unfolded.view()), windows) == 0);
    fold(be, g, out.view(du), 0.5, in.view(folded));
    CHECK(test::distance(download(be, folded.view()), image) < 1e-13);
    fill(be, folded.view(), NAN);  // beta = 0 does not read
    fold(be, g, out.view(du), 0, in.view(folded));
    CHECK(test::distance(download(be, folded.view()), image - 0.5 * start) < 1e-13);
  }
}

TEST_CASE("images: sizes of outputs, layouts, and what is refused", "[linalg]") {
  CHECK(convolution_axis{3, 2, 1, 1}.outputs(224) == 112);
  CHECK(convolution_axis{3, 1, 0, 2}.outputs(4) == 0);
  CHECK(convolution_axis{3, 1, 0, 2}.outputs(5) == 1);
  auto be = test::make_backend();
  batch const first{2, 3, 4, 5, false}, last{2, 3, 4, 5, true};
  auto memory = upload<double>(be, first.random(1));
  auto const from = first.view(memory);
  CHECK(!from.is_matrix());
  CHECK(from.images(1, 1).is_matrix());
  CHECK(last.view(memory).is_matrix());
  matrix<double, test::backend> other(be, 60, 2);
  copy_images(be, from, last.view(other));
  CHECK(download(be, other.view())((2 * 5 + 3) * 3 + 1, 1) == download(be, memory.view())((1 * 4 + 2) * 5 + 3, 1));

  auto const accept = [&](auto v) { require_images(v, 2, 3, 4, 5, "f", "v"); };
  CHECK_NOTHROW(accept(from));
  CHECK_THROWS_WITH(require_images(from, 2, 3, 5, 4, "f", "v"),
                    "f: v is 2 images of 3 channels of 4x5, expected 2 images of 3 channels of 5x4");
  auto bad = from;
  bad.image_stride = 59;
  CHECK_THROWS_AS(accept(bad), shape_error);
  bad = from;
  bad.pixel_stride = 0;
  CHECK_THROWS_AS(accept(bad), shape_error);
  bad = from;
  bad.data = nullptr;
  CHECK_THROWS_AS(accept(bad), shape_error);
  CHECK_THROWS_AS(require_distinct_images(from, from.images(1, 1), "f", "y", "x"), alias_error);
  CHECK_NOTHROW(require_distinct_images(from.images(0, 1), from.images(1, 1), "f", "y", "x"));

  for (auto const& broken :
       {convolution_geometry{0, {}, {}}, convolution_geometry{1, {0, 1, 0, 1}, {}},
        convolution_geometry{1, {}, {1, 0, 0, 1}}, convolution_geometry{1, {}, {1, 1, -1, 1}},
        convolution_geometry{1, {1, 1, 0, 0}, {}}, convolution_geometry{1, {1 << 20, 1, 0, 1}, {}}})
    CHECK_THROWS_AS(broken.check("f"), value_error);
}
