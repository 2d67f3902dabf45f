// The example's transformer: its hand-written backward against finite differences, for every tensor and adapter.
#include "../../examples/model/vision_transformer.hpp"

#include "../support/trained_model.hpp"

using namespace loraga;
using test::backend;
using test::host;

namespace {

model::vision_transformer_shape const small{
    .side = 8, .patch = 4, .width = 16, .layers = 2, .heads = 2, .hidden = 24, .classes = 3};

struct trained_transformer : test::trained_model<model::vision_transformer<backend>> {
  trained_transformer() : trained_model(small) {}
};

}  // namespace

TEST_CASE("the model's backward agrees with finite differences, tensor by tensor", "[examples]") {
  trained_transformer t;
  t.gradients();
  std::vector<host> gradients;
  for (auto* tensor : t.m.tensors()) gradients.push_back(test::download(t.be, tensor->gradient.view()));
  auto const tensors = t.m.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    // adding to every key's score changes no softmax: the key bias has no gradient
    if (tensors[i]->name.find(".key.bias") != std::string::npos) {
      CHECK(test::largest(gradients[i]) < 1e-6);
      continue;
    }
    t.check(tensors[i]->name, tensors[i]->value.view(), gradients[i]);
  }
}

TEST_CASE("through adapters of every class as well", "[examples]") {
  trained_transformer t;
  int kind = 0;
  for (auto* l : t.m.linears()) {
    auto const emplace = [&]<class A>(A const*) {
      l->adapter.emplace<A>(t.be, l->out(), l->in(), 2, rank_stable_scaling{1});
    };
    if (kind % 3 == 0) emplace(static_cast<lora<float, backend> const*>(nullptr));
    if (kind % 3 == 1) emplace(static_cast<adalora<float, backend> const*>(nullptr));
    if (kind % 3 == 2) emplace(static_cast<dora<float, backend> const*>(nullptr));
    ++kind;
    for (auto const& p : l->adapter.parameters()) fill_normal(t.be, p.value, {9, t.stream++}, 0.3);
    l->adapter.with([&](auto& ad) { ad.values_changed(t.be); });
    l->adapter.zero_gradient(t.be);
  }
  t.loss();  // DoRA's magnitudes take their start from W
  t.gradients();
  for (auto* l : t.m.linears()) {
    bool const rescaled = l->adapter.get<dora<float, backend>>() != nullptr;
    for (auto const& p :
         l->adapter.parameters())  // DoRA's A and B see its norms as constants, which differences do not
      if (!rescaled || p.kind == parameter_kind::other)
        t.check(l->weight.name + " " + p.name, p.value, test::download(t.be, p.gradient));
  }
  t.check("position", t.m.position.value.view(), test::download(t.be, t.m.position.gradient.view()));
}

TEST_CASE("a block that serves the class token alone gives what the whole block gives it", "[examples]") {
  auto be = test::make_backend(1);
  index_t const width = 16, tokens = 5, count = 3;
  model::block<backend> whole(be, "b", width, 2, 24, false), alone(be, "b", width, 2, 24, true);
  std::uint64_t stream = 0;
  for (auto* b : {&whole, &alone}) {
    stream = 0;
    for (auto* l : {&b->query, &b->key, &b->value, &b->output, &b->expand, &b->contract})
      fill_normal(be, l->weight.value.view(), {5, ++stream}, 0.3);
  }
  host const x = test::random(width, tokens * count, 6);
  auto dx = test::upload<float>(be, x), dy = test::upload<float>(be, x);
  whole.forward(be, dx.view(), {count, tokens});
  alone.forward(be, dy.view(), {count, tokens});
  host const full = test::download(be, dx.view()), part = test::download(be, dy.view());
  for (index_t n = 0; n < count; ++n)
    CHECK(test::distance(test::columns(full, n * tokens, 1), test::columns(part, n * tokens, 1)) < 1e-5);
  // and the gradient of a loss that reads the class tokens alone
  host g(width, tokens * count);
  for (index_t n = 0; n < count; ++n)
    for (index_t i = 0; i < width; ++i) g(i, n * tokens) = std::sin(static_cast<double>(i + 3 * n));
  auto gx = test::upload<float>(be, g), gy = test::upload<float>(be, g);
  (void)whole.backward(be, gx.view(), {count, tokens});
  (void)alone.backward(be, gy.view(), {count, tokens});
  CHECK(test::distance(test::download(be, gx.view()), test::download(be, gy.view())) < 1e-5);
}

TEST_CASE("the fast exponential is one", "[examples]") {
  for (double x = -80; x < 80; x += 0.37)
    CHECK(static_cast<double>(model::functor::exp(static_cast<float>(x))) ==
          Approx(std::exp(static_cast<double>(static_cast<float>(x)))).epsilon(5e-7));
}
