#include <loraga/gradient/model_gradient.hpp>

#include "checks.hpp"

using namespace loraga;
using test::backend;

namespace {

/// Micro-batches of one layer: dW = a fixed matrix of rank 3, plus noise.
struct noisy_layer {
  test::host left, right;
  double noise;
  noisy_layer(index_t out, index_t in, double noise, std::uint64_t seed)
      : left(test::random(out, 3, seed)), right(test::random(in, 3, seed + 1)), noise(noise) {}
  void feed(backend& be, incremental_gradient<backend, double>& to, std::uint64_t n) const {
    auto dw = left * test::transpose(right);
    auto const error = test::random(dw.rows, dw.cols, 1000 + n);
    for (std::size_t i = 0; i < dw.data.size(); ++i) dw.data[i] += noise * error.data[i];
    to.add(be, test::upload<double>(be, dw).view());
  }
};

}  // namespace

TEST_CASE("a model's estimate turns less and less, and says so layer by layer", "[gradient]") {
  auto be = test::make_backend();
  std::vector<layer_size> const sizes{{40, 30}, {20, 50}};
  model_gradient<backend, double> g(be, sizes, {.rank = 2});
  noisy_layer const layers[]{{40, 30, 0.3, 1}, {20, 50, 0.3, 3}};
  CHECK(std::isnan(g.turn().mean));
  CHECK(!g.settled(1));
  std::vector<double> curve;
  for (std::uint64_t n = 0; n < 12; ++n) {
    for (index_t i = 0; i < 2; ++i) layers[i].feed(be, g[i], 2 * n + static_cast<std::uint64_t>(i));
    curve.push_back(g.turn().mean);
  }
  CHECK(std::isnan(curve[0]));
  CHECK(curve[1] > 0.04);
  CHECK(curve[11] < 0.3 * curve[1]);
  CHECK(g.turn().largest >= g.turn().mean);
  CHECK(g.settled(2 * curve[11]));
  CHECK(!g.settled(0.5 * curve[11]));
  CHECK_THROWS_AS(g.settled(0), value_error);
}

TEST_CASE("a turn is the sine of the angle between leading subspaces", "[gradient]") {
  auto be = test::make_backend();
  incremental_gradient<backend, double> g(be, 6, 5, {.rank = 1});
  auto const add = [&](double x, double y, double z) {  // x*e1*e1T + y*e2*e2T + z*e3*e3T
    test::host dw(6, 5);
    dw(0, 0) = x;
    dw(1, 1) = y;
    dw(2, 2) = z;
    g.add(be, test::upload<double>(be, dw).view());
  };
  add(3, 1, 0);
  CHECK(std::isnan(g.turn()));
  add(3, 1, 0);
  CHECK(g.turn() < 1e-7);  // the sum of the same
  add(0, 0, 8);            // the leading two are now 8 and 6: of their energy of 100, 64 is new
  CHECK(g.turn() == Approx(0.8).epsilon(1e-9));
}

TEST_CASE("what a model's estimate keeps is known from its shapes", "[gradient]") {
  std::vector<layer_size> const square{{4096, 4096}}, narrow{{576, 1536}, {10, 3}};
  CHECK(model_gradient<backend>::bytes(square, {.rank = 8}) == 4 * 32 * 8193);
  CHECK(static_cast<double>(model_gradient<backend>::bytes(square, {.rank = 8})) < 0.017 * 4 * 4096 * 4096);
  CHECK(model_gradient<backend>::bytes(narrow, {.rank = 8}) == 4 * (32 * 2113 + 3 * 14));
  auto be = test::make_backend();
  model_gradient<backend> g(be, narrow, {.rank = 8});
  CHECK(g.bytes() == 4 * (32 * 2113 + 3 * 14));
  CHECK(g.size() == 2);
  CHECK(g[1].width() == 3);
}
