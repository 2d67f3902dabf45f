// The example's convolutional network: its hand-written backward against finite differences, for every tensor and
// adapter, and its convolution against a plain one.
#include "../../examples/model/convolutional_network.hpp"

#include "../support/trained_model.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

struct trained_network : test::trained_model<model::convolutional_network<backend>> {
  trained_network() : trained_model({.side = 7, .channels = {4, 5}, .hidden = 6, .classes = 3}) {}
};

}  // namespace

TEST_CASE("the convolutional network's backward agrees with finite differences", "[examples]") {
  trained_network t;
  t.gradients();
  for (auto* tensor : t.m.tensors())
    t.check(tensor->name, tensor->value.view(), test::download(t.be, tensor->gradient.view()));
}

TEST_CASE("through adapters of every class on its convolutions as well", "[examples]") {
  for (int first = 0; first < 4; ++first) {  // every class on every layer
    trained_network t;
    int kind = first;
    for (auto* l : t.m.linears()) {
      auto const emplace = [&]<class A>(A const*) {
        l->adapter.emplace<A>(t.be, l->out(), l->in(), 2, rank_stable_scaling{1});
      };
      if (kind % 4 == 0) emplace(static_cast<lora<float, backend> const*>(nullptr));
      if (kind % 4 == 1) emplace(static_cast<adalora<float, backend> const*>(nullptr));
      if (kind % 4 == 2) emplace(static_cast<dora<float, backend> const*>(nullptr));
      ++kind;  // 3: none
      for (auto const& p : l->adapter.parameters()) fill_normal(t.be, p.value, {9, t.stream++}, 0.3);
      l->adapter.with([&](auto& ad) { ad.values_changed(t.be); });
      l->adapter.zero_gradient(t.be);
    }
    t.loss();  // DoRA's magnitudes take their start from W
    t.gradients();
    for (auto* l : t.m.linears()) {
      bool const rescaled = l->adapter.get<dora<float, backend>>() != nullptr;
      for (auto const& p : l->adapter.parameters())  // DoRA's A and B see its norms as constants: differences do not
        if (!rescaled || p.kind == parameter_kind::other)
          t.check(l->weight.name + " " + p.name, p.value, test::download(t.be, p.gradient));
      t.check(l->bias.name, l->bias.value.view(), test::download(t.be, l->bias.gradient.view()));
    }
  }
}

TEST_CASE("the example's convolution is one, and merging its adapter changes nothing", "[examples]") {
  auto be = test::make_backend(1);
  index_t const count = 3, side = 5;
  convolution_geometry const g{2, {3, 2, 1, 1}, {3, 2, 1, 1}};
  model::convolution<backend> c(be, "c", 4, g);
  fill_normal(be, c.weight.value.view(), {5, 1}, 0.3);
  fill_normal(be, c.bias.value.view(), {5, 2}, 0.3);
  host const x = test::random(2 * side * side, count, 6),
             w = test::transpose(test::download(be, c.weight.value.view()));
  host const b = test::download(be, c.bias.value.view());
  auto dx = test::upload<float>(be, x), dy = test::upload<float>(be, host(4 * 9, count));
  auto const images = nchw<test::space>(dx.view().data, count, 2, side, side);
  auto const out = nchw<test::space>(dy.view().data, count, 4, 3, 3);
  c.forward(be, images, out);
  host expected(4 * 9, count);
  for (index_t n = 0; n < count; ++n)
    for (index_t o = 0; o < 4; ++o)
      for (index_t y = 0; y < 3; ++y)
        for (index_t z = 0; z < 3; ++z) {
          double sum = b(o, 0);
          for (index_t k = 0; k < g.in(); ++k) {
            index_t const row = 2 * y + k % 9 / 3 - 1, col = 2 * z + k % 3 - 1;
            if (row >= 0 && row < side && col >= 0 && col < side)
              sum += w(o, k) * x((k / 9 * side + row) * side + col, n);
          }
          expected((o * 3 + y) * 3 + z, n) = sum;
        }
  CHECK(test::distance(test::download(be, dy.view()), expected) < 1e-5);

  auto& ad = c.adapter.emplace<lora<float, backend>>(be, 4, g.in(), 2, rank_stable_scaling{4});
  fill_normal(be, ad.a(), {5, 3}, 0.3);
  fill_normal(be, ad.b(), {5, 4}, 0.3);
  ad.values_changed(be);
  c.forward(be, images, out);
  host const adapted = test::download(be, dy.view());
  CHECK(test::distance(adapted, expected) > 0.1);
  model::convolution<backend> merged(be, "m", 4, g);
  be.copy(c.weight.value.view(), merged.weight.value.view());
  be.copy(c.bias.value.view(), merged.bias.value.view());
  c.adapter.add_change(be, merged.w());
  merged.forward(be, images, out);
  CHECK(test::distance(test::download(be, dy.view()), adapted) < 1e-5);
}
