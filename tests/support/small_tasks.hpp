#pragma once
#include "../../examples/data/fashion_mnist.hpp"
#include "../../examples/data/text_set.hpp"
#include "../../examples/model/convolutional_network.hpp"
#include "../../examples/model/text_encoder.hpp"
#include "../../examples/model/vision_transformer.hpp"
#include "../../examples/training/measurements.hpp"
#include "backend.hpp"

// Tasks that small random models can learn, for tests of the examples' training.

namespace test {

/// A task, and how its runs are asked for.
template <class M, class S>
struct small_task {
  backend be = make_backend(1);
  typename M::shape_type shape;
  model::weights weights;
  data::parts<S> parts;
  training::task<M, S> task{};

  small_task(typename M::shape_type s, data::parts<S> p) : shape(s), parts(std::move(p)) {
    task.shape = shape;
    task.weights = &weights;
    task.data = &parts;
  }
  training::train_spec spec(std::string const& method) const {
    training::train_spec s;
    s.method = method;
    s.set = "made";
    s.rank = 3;
    s.ratio = training::find_method(method).ratio;
    s.rate = s.ratio > 1 ? 1e-3 : 4e-3;
    s.steps = 12;
    s.batch = 8;
    s.evaluate_every = 5;
    s.sample = {2, 8};
    return s;
  }
  training::train_record run(training::train_spec const& s, training::checkpointing const& keep = {},
                             loraga::index_t stop_at = -1) const {
    backend own = make_backend(1);
    return training::trainer(own, task, s).run(keep, [&](training::progress const& p) {
      if (p.step == stop_at) throw std::runtime_error("interrupted");
    });
  }
};

/// A label is whether the snippet holds token 5.
struct text_task : small_task<model::text_encoder<backend>, data::text_set> {
  text_task()
      : small_task({.vocabulary = 20, .positions = 12, .types = 2, .width = 16, .layers = 2, .heads = 2, .hidden = 24},
                   {}) {
    model::text_encoder<backend> m(be, shape);
    std::uint64_t stream = 0;
    for (auto* t : m.tensors()) {
      bool const gain = t->name.ends_with(".gain");
      auto const values = random(t->value.rows(), t->value.cols(), 50 + stream++, 0.3);
      weights.emplace_back();
      for (double const x : values.data) weights.back().push_back(static_cast<float>(x + (gain ? 1 : 0)));
    }
    weights.resize(weights.size() - 2);  // the head is not pre-trained
    for (std::uint64_t n = 0; n < 120; ++n) {
      std::vector<loraga::index_t> tokens{1};
      auto const length = 3 + static_cast<loraga::index_t>(5 * loraga::random_uniform({7, n}, 0));
      for (loraga::index_t i = 0; i < length; ++i)
        tokens.push_back(
            6 + static_cast<loraga::index_t>(14 * loraga::random_uniform({7, n}, static_cast<std::uint64_t>(i + 1))));
      if (n % 2 == 1) tokens[2] = 5;
      (n < 80 ? parts.train : n < 100 ? parts.validation : parts.test).add(tokens, n % 2 == 1);
    }
  }
};

/// Noise, brighter by the class.
inline data::image_set small_images(std::uint64_t first, std::uint64_t count) {
  data::image_set s{64, {}, {}};
  for (std::uint64_t n = first; n < first + count; ++n) {
    s.labels.push_back(static_cast<loraga::index_t>(n % 3));
    for (std::uint64_t i = 0; i < 64; ++i)
      s.images.push_back(static_cast<float>(loraga::random_normal({1, n}, i)) + static_cast<float>(n % 3));
  }
  return s;
}

/// For any model of images; evaluated on merged copies, as the vision example does it.
template <class M>
struct image_task : small_task<M, data::device_set<backend>> {
  using base = small_task<M, data::device_set<backend>>;
  explicit image_task(typename M::shape_type s) : base(s, {}) {
    this->parts = {{this->be, small_images(0, 60)}, {this->be, small_images(60, 9)}, {this->be, small_images(69, 30)}};
    M m(this->be, s);
    m.randomise(this->be, 1);
    this->weights = model::save(this->be, m);
    this->task.merged = this->task.layer_seeds = true;
    this->task.curve_items = 20;
  }
};
struct transformer_task : image_task<model::vision_transformer<backend>> {
  transformer_task()
      : image_task({.side = 8, .patch = 4, .width = 16, .layers = 2, .heads = 2, .hidden = 24, .classes = 3}) {}
};
struct convolution_task : image_task<model::convolutional_network<backend>> {
  convolution_task() : image_task({.side = 8, .channels = {6, 8}, .hidden = 10, .classes = 3}) {}
};

}  // namespace test
