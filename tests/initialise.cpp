#include <loraga/initialise.hpp>

#include "init/checks.hpp"

using namespace loraga;
using test::download;
using test::host;

namespace {

using adapter = lora<float, test::backend>;
using gradient = dense_gradient<test::backend>;
using layer_of = layer<adapter, test::view<float>, gradient>;

/// Several layers of two shapes.
struct model {
  test::backend be = test::make_backend();
  std::vector<adapter> adapters;
  std::vector<matrix<float, test::backend>> weights;
  std::vector<gradient> gradients;
  std::vector<host> before;
  std::vector<layer_of> layers;

  model() {
    for (int i = 0; i < 6; ++i) {
      index_t const out = i % 2 ? 24 : 40, in = 30;
      auto const seed = static_cast<std::uint64_t>(10 * i);
      adapters.emplace_back(be, out, in, 3, rank_stable_scaling{});
      weights.push_back(test::upload<float>(be, test::random(out, in, seed, 0.2)));
      gradients.emplace_back(be, out, in);
      gradients.back().add(
          be, test::upload<float>(be, test::with_spectrum(out, in, test::geometric(24, 0.8), seed + 1)).view());
      before.push_back(download(be, weights.back().view()));
    }
    for (std::size_t i = 0; i < 6; ++i)
      layers.push_back({&adapters[i], weights[i].view(), &gradients[i], "layer" + std::to_string(i)});
  }
  void run(lora_ga_init init = {}) {
    initialise(be, std::span<layer_of const>(layers), init, gram{}, in_place_anchor{});
  }
  bool untouched(std::size_t i) {
    return test::largest(download(be, adapters[i].a())) == 0 &&
           test::distance(download(be, weights[i].view()), before[i]) == 0;
  }
};

}  // namespace

TEST_CASE("a batch equals its layers one by one (on a CPU bit for bit)", "[initialise]") {
  model all, single;
  all.run();
  for (std::size_t i = 0; i < 6; ++i) {
    initialise(single.be, single.adapters[i], lora_ga_init{}, single.weights[i].view(), gram{}, single.gradients[i],
               in_place_anchor{});
    double const most = test::batches_keep_bits ? 0 : 1e-4;
    CHECK(test::distance(download(all.be, all.adapters[i].a()), download(single.be, single.adapters[i].a())) <= most);
    CHECK(test::distance(download(all.be, all.adapters[i].b()), download(single.be, single.adapters[i].b())) <= most);
    CHECK(test::distance(download(all.be, all.weights[i].view()), download(single.be, single.weights[i].view())) <=
          most);
  }
}

TEST_CASE("bad layers are named together and left alone; good ones are initialised", "[initialise]") {
  model m;
  m.gradients[1].add(m.be, test::upload<float>(m.be, host(24, 30, NAN)).view());
  m.gradients[4].reset(m.be);
  m.gradients[4].add(m.be, test::upload<float>(m.be, host(40, 30)).view());
  try {
    m.run();
    FAIL("nothing was thrown");
  } catch (numeric_error const& e) {
    std::string const what = e.what();
    CHECK(what.find("layer1 is not finite") != std::string::npos);
    CHECK(what.find("layer4 is zero") != std::string::npos);
    CHECK(what.find("layer0") == std::string::npos);
  }
  for (std::size_t const i : {1u, 4u}) CHECK(m.untouched(i));
  for (std::size_t const i : {0u, 2u, 3u, 5u}) CHECK(!m.untouched(i));
}

TEST_CASE("what can be known before any work is refused before any change", "[initialise]") {
  {
    model m;
    m.gradients[5].reset(m.be);
    CHECK_THROWS_WITH(m.run(), Catch::Contains("layer5") && Catch::Contains("empty"));
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
  {
    model m;
    m.layers[5].weight = m.weights[4].view();
    CHECK_THROWS_AS(m.run(), shape_error);
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
  {
    model m;
    m.layers[3].source = &m.gradients[2];
    CHECK_THROWS_AS(m.run(), shape_error);
    CHECK_THROWS_AS(m.run({.gamma = 0}), value_error);
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  }
}

TEST_CASE("one adapter or one W twice, null pointers and a missing W are refused before any change", "[initialise]") {
  auto const refused = [](model& m, char const* what) {
    CHECK_THROWS_WITH(m.run(), Catch::Contains(what));
    for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  };
  model twice, tied, no_gradient_given, no_adapter, no_w;
  twice.layers[4].adapter = twice.layers[2].adapter;
  refused(twice, "layer4): adapter is that of layer2");
  tied.layers[4].weight = tied.layers[2].weight;
  CHECK_THROWS_AS(tied.run(), alias_error);
  refused(tied, "layer4): W");
  no_gradient_given.layers[5].source = nullptr;
  refused(no_gradient_given, "layer5): gradient is null");
  no_adapter.layers[5].adapter = nullptr;
  refused(no_adapter, "layer5): adapter is null");
  no_w.layers[5].weight = {};
  refused(no_w, "layer5): W is not given");
  // a frozen pair changes no W, so tied weights are fine
  CHECK_NOTHROW(
      initialise(tied.be, std::span<layer_of const>(tied.layers), lora_ga_init{}, gram{}, frozen_pair_anchor{}));
}

TEST_CASE("what the SVD or an accumulator refuses for one layer changes none", "[initialise]") {
  model m;
  m.adapters[5] = adapter(m.be, 24, 30, 9, rank_stable_scaling{});  // a group of its own: 18 triplets
  CHECK_THROWS_AS(
      initialise(m.be, std::span<layer_of const>(m.layers), lora_ga_init{}, subspace{.width = 10}, in_place_anchor{}),
      shape_error);
  for (std::size_t i = 0; i < 6; ++i) CHECK(m.untouched(i));
  auto be = test::make_backend();
  using narrow = incremental_gradient<test::backend>;
  adapter first(be, 20, 15, 3, rank_stable_scaling{}), second(be, 15, 20, 3, rank_stable_scaling{});
  auto w1 = test::upload<float>(be, test::random(20, 15, 1)), w2 = test::upload<float>(be, test::random(15, 20, 2));
  narrow g1(be, 20, 15, {.rank = 3}), g2(be, 15, 20, {.rank = 3, .width = 4});
  g1.add(be, w1.view());
  g2.add(be, w2.view());
  auto const before1 = read_all(be, w1.view()), before2 = read_all(be, w2.view());
  layer<adapter, test::view<float>, narrow> const both[] = {{&first, w1.view(), &g1}, {&second, w2.view(), &g2}};
  CHECK_THROWS_AS(initialise(be, std::span<layer<adapter, test::view<float>, narrow> const>(both), lora_ga_init{},
                             gram{}, in_place_anchor{}),
                  shape_error);
  CHECK(test::largest(download(be, first.a())) == 0);
  CHECK(test::largest(download(be, second.a())) == 0);
  CHECK(read_all(be, w1.view()) == before1);
  CHECK(read_all(be, w2.view()) == before2);
  // Known before the sample, and said by name: the second layer's estimate keeps 4 triplets, LoRA-GA wants 6.
  narrow e1(be, 20, 15, {.rank = 3}), e2(be, 15, 20, {.rank = 3, .width = 4});
  layer<adapter, test::view<float>, narrow> const to_come[] = {{&first, w1.view(), &e1},
                                                               {&second, w2.view(), &e2, "layers.1.k"}};
  std::span<layer<adapter, test::view<float>, narrow> const> const planned(to_come);
  CHECK_THROWS_WITH(
      check_layers(planned, lora_ga_init{}, in_place_anchor{}, false),
      Catch::Contains("layers.1.k") && Catch::Contains("an estimate of 4 triplets, expected 6 for r = 3"));
  CHECK_NOTHROW(check_layers(planned.first(1), lora_ga_init{}, in_place_anchor{}, false));
  CHECK_THROWS_AS(check_layers(planned.first(1), lora_ga_init{}, in_place_anchor{}), state_error);  // nothing seen
  layer<adapter, test::view<float>> const missing[] = {{&first, w1.view()}, {&second, {}}};
  CHECK_THROWS_AS(initialise(be, std::span<layer<adapter, test::view<float>> const>(missing), pissa_init{}, gram{},
                             frozen_pair_anchor{}),
                  value_error);
  CHECK(test::largest(download(be, first.a())) == 0);
}

TEST_CASE("a second start in place would lose the first one's W and is refused", "[initialise]") {
  model m;
  m.run();
  auto const w = download(m.be, m.weights[0].view());
  CHECK_THROWS_AS(m.run(), state_error);
  CHECK(test::distance(download(m.be, m.weights[0].view()), w) == 0);
  test::fixture<> f(20, 15, 3);
  adapter pair(f.be, 20, 15, 3, rank_stable_scaling{});
  initialise(f.be, pair, lora_ga_init{}, gram{}, f.gradient, frozen_pair_anchor{});
  CHECK_NOTHROW(initialise(f.be, pair, lora_ga_init{.gamma = 64}, gram{}, f.gradient, frozen_pair_anchor{}));
  CHECK(test::distance(download(f.be, pair.start_a()), download(f.be, pair.a())) == 0);
}

TEST_CASE("gradients are zeroed by a start", "[initialise]") {
  test::fixture<> f(20, 15, 3);
  adapter ad(f.be, 20, 15, 3, rank_stable_scaling{});
  fill(f.be, ad.gradient(), 5);
  initialise(f.be, ad, lora_ga_init{}, f.weight.view(), gram{}, f.gradient, in_place_anchor{});
  CHECK(test::largest(download(f.be, ad.gradient())) == 0);
}
