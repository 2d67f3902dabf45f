#pragma once
#include "../../examples/model/image_batch.hpp"
#include "backend.hpp"
#include "catch.hpp"

namespace test {

/// A model of images with every tensor away from its start, so that no term of a derivative hides, and its gradients
/// against finite differences.
template <class M>
struct trained_model {
  backend be = make_backend(1);
  M m;
  loraga::matrix<float, backend> images;
  loraga::matrix<loraga::index_t, backend> labels{be, 1, 5};
  std::uint64_t stream = 0;

  explicit trained_model(typename M::shape_type const& shape)
      : m(be, shape), images(upload<float>(be, random(shape.side * shape.side, 5, 1))) {
    m.randomise(be, 3);
    for (auto* t : m.tensors()) {
      loraga::scratch<backend> temporary(be);
      auto const noise = temporary.template matrix<float>(t->value.rows(), t->value.cols());
      loraga::fill_normal(be, noise, {4, stream++}, 0.2);
      loraga::axpby(be, 1, noise, 1, t->value.view());
    }
    loraga::index_t const classes[] = {0, 2, 1, 0, 2};
    be.copy(loraga::col_major(classes, 1, 5), labels.view());
    be.synchronize();
  }
  model::image_batch<typename backend::space> batch() { return {images.view(), labels.view()}; }
  double loss() { return m.run(be, batch(), false).mean(); }
  void gradients() {
    for (auto* t : m.tensors()) {
      t->train(be, true);
      loraga::fill(be, t->gradient.view(), 0);
    }
    m.run(be, batch(), true);
  }
  /// The loss' slope along a direction, by central differences and as the gradient has it.
  void check_slope(std::string const& name, view<float> value, host const& gradient, host const& direction) {
    INFO(name);
    host const start = download(be, value);
    double const h = 0.01 / norm(direction);
    auto const at = [&](double step) {
      upload_to<float>(be, start + step * direction, value);
      return loss();
    };
    double const slope = (at(h) - at(-h)) / (2 * h), fourth = (at(h / 2) - at(-h / 2)) / h;
    double const expected = inner(gradient, direction), size = norm(gradient) * norm(direction);
    upload_to<float>(be, start, value);
    CHECK(std::abs((4 * fourth - slope) / 3 - expected) < 2e-3 * size + 2e-4 * norm(direction));
  }
  void check(std::string const& name, view<float> value, host const& gradient) {
    REQUIRE(norm(gradient) > 1e-4);
    check_slope(name + " along its gradient", value, gradient, gradient);
    check_slope(name + " in a random direction", value, gradient, random(value.rows, value.cols, 7 + stream++));
  }
};

}  // namespace test
